//! How much memory the machine has, asked without a file.

use std::mem::MaybeUninit;

/// RAM in bytes (sysinfo(2)).
#[must_use]
pub fn total_bytes() -> Option<u64> {
    let mut info = MaybeUninit::<libc::sysinfo>::uninit();
    // SAFETY: the kernel fills the structure, which lives through the call, unless it answers otherwise than by 0.
    let info = unsafe {
        if libc::sysinfo(info.as_mut_ptr()) != 0 {
            return None;
        }
        info.assume_init()
    };
    (info.totalram as u64).checked_mul(info.mem_unit.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn it_is_what_proc_says() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
        let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap();
        assert_eq!(super::total_bytes().unwrap() >> 10, kib);
    }
}
