//! The distances between source and destination that make `rep movsb` slow on this CPU. Linux copies with this
//! instruction between a program and a socket where the CPU says `fsrm`; docs/internals/copies.md says why the distances
//! matter. It prints the ranges of (destination - source) mod 4096 that take more than twice as long as most.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[cfg(target_arch = "x86_64")]
fn main() {
    probe::run(std::env::args().any(|argument| argument == "--test"));
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("this CPU has no rep movsb");
}

#[cfg(target_arch = "x86_64")]
mod probe {
    use std::arch::asm;
    use std::time::{Duration, Instant};

    const PAGE: usize = 4096;
    /// Bytes of one copy, as into a page fragment of the kernel's, and of all copies.
    const PIECE: usize = 32 << 10;
    const BYTES: usize = 256 << 10;
    const GIB: f64 = (1u64 << 30) as f64;
    /// The fastest of so many tries counts.
    const TRIES: usize = 5;
    /// Places of the source in its page.
    const SOURCES: [usize; 4] = [0, 1, 2048, 4000];

    pub(super) fn run(is_test: bool) {
        let step = if is_test { 512 } else { 1 };
        let (from, mut to) = (vec![1_u8; BYTES + 2 * PAGE], vec![1_u8; BYTES + 2 * PAGE]);
        for source in SOURCES {
            let distances: Vec<usize> = (0..PAGE).step_by(step).collect();
            let costs: Vec<f64> = distances
                .iter()
                .map(|distance| seconds_per_gib(&from, &mut to, source, source + distance))
                .collect();
            let mut sorted = costs.clone();
            sorted.sort_by(f64::total_cmp);
            let (usual, most) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
            let slow = distances.iter().zip(&costs).filter(|(_, cost)| **cost > 2.0 * usual);
            let slow: Vec<usize> = slow.map(|(distance, _)| *distance).collect();
            let ranges: Vec<String> = slow
                .chunk_by(|a, b| a + step == *b)
                .map(|range| format!("{} to {}", range[0], range[range.len() - 1]))
                .collect();
            println!(
                "source at {source}: {usual:.3} s/GiB mostly, {most:.3} at most; slow: {}",
                if ranges.is_empty() { "none".to_owned() } else { ranges.join(", ") }
            );
        }
    }

    /// The time of copies from `source` to `destination`, places in a page.
    fn seconds_per_gib(from: &[u8], to: &mut [u8], source: usize, destination: usize) -> f64 {
        let source = page_start(from) + source;
        let destination = page_start(to) + destination % PAGE;
        let mut fastest = Duration::MAX;
        for _ in 0..TRIES {
            let begun = Instant::now();
            for at in (0..BYTES - PIECE).step_by(PIECE) {
                let (source, destination) = (source + at, destination + at);
                copy(&from[source..source + PIECE], &mut to[destination..destination + PIECE]);
            }
            fastest = fastest.min(begun.elapsed());
        }
        fastest.as_secs_f64() * GIB / (BYTES - PIECE) as f64
    }

    /// The index of the first byte that begins a page.
    fn page_start(bytes: &[u8]) -> usize {
        bytes.as_ptr().align_offset(PAGE)
    }

    /// Copies `from` to `to`, which is as long.
    #[allow(unsafe_code)]
    fn copy(from: &[u8], to: &mut [u8]) {
        assert_eq!(from.len(), to.len());
        // SAFETY: both ranges are live, as long as is said, and do not overlap, as one of them is borrowed mutably. The
        // direction flag is clear, as everywhere.
        unsafe {
            asm!(
                "rep movsb",
                inout("rcx") from.len() => _,
                inout("rsi") from.as_ptr() => _,
                inout("rdi") to.as_mut_ptr() => _,
                options(nostack, preserves_flags)
            );
        }
    }
}
