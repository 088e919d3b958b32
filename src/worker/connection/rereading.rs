//! The moments when a request's head that comes in pieces is read again: seldom enough that the work is linear in its
//! bytes, whatever the pieces.
//!
//! `Connection` asks after each piece. A head is always read when its end has come. Before that it is read for its
//! faults alone: each time while it is short, and then each time it has grown by half.

use memchr::memmem;

/// A head of so many bytes or fewer costs about as much to read as the system call that brings one byte of it.
const SHORT_BYTES: usize = 4096;

/// The end of a head, and of a chunked body without payload. The line before has ended already.
const BLANK_LINE: &[u8] = b"\n\r\n";

/// The length of a head so far, and the part of it that was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rereading {
    seen_bytes: usize,
    read_bytes: usize,
    /// Blank lines before the head, which end nothing.
    leading_bytes: usize,
}

impl Rereading {
    /// Whether to read `bytes` now. They are all that has come of a request whose head may have `head_bytes_max`.
    pub(super) fn is_due(&mut self, bytes: &[u8], head_bytes_max: usize) -> bool {
        let seen_bytes = std::mem::replace(&mut self.seen_bytes, bytes.len());
        self.skip_leading(bytes);
        let is_full = seen_bytes < head_bytes_max && bytes.len() >= head_bytes_max;
        let has_grown = bytes.len() >= self.read_bytes.saturating_add(self.read_bytes / 2);
        let is_due =
            bytes.len() <= SHORT_BYTES || has_grown || is_full || self.ends(bytes, seen_bytes);
        if is_due {
            self.read_bytes = bytes.len();
        }
        is_due
    }

    fn skip_leading(&mut self, bytes: &[u8]) {
        while bytes.get(self.leading_bytes..).is_some_and(|rest| rest.starts_with(b"\r\n")) {
            self.leading_bytes = self.leading_bytes.saturating_add(2);
        }
    }

    /// Whether a blank line has come after the first `seen_bytes`.
    fn ends(&self, bytes: &[u8], seen_bytes: usize) -> bool {
        let may_have_begun = seen_bytes.saturating_sub(BLANK_LINE.len() - 1);
        let rest = bytes.get(may_have_begun.max(self.leading_bytes)..).unwrap_or_default();
        memmem::find(rest, BLANK_LINE).is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    const HEAD_BYTES_MAX: usize = 1 << 20;

    /// The bytes that are read in all of a head that comes in pieces of `piece_bytes`, and whether the last piece was
    /// read.
    fn read_bytes(head: &[u8], piece_bytes: usize) -> (usize, bool) {
        let (mut rereading, mut read, mut is_due) = (Rereading::default(), 0, false);
        let ends =
            (0..head.len()).step_by(piece_bytes).map(|at| (at + piece_bytes).min(head.len()));
        for end in ends {
            is_due = rereading.is_due(&head[..end], HEAD_BYTES_MAX);
            read += if is_due { end } else { 0 };
        }
        (read, is_due)
    }

    fn long_heads() -> [Vec<u8>; 4] {
        let long = |begin: &str, fill: &str, end: &str| {
            let fills = (HEAD_BYTES_MAX - begin.len() - end.len()) / fill.len();
            [begin.as_bytes(), fill.repeat(fills).as_bytes(), end.as_bytes()].concat()
        };
        [
            long("GET / HTTP/1.1\r\nHost: a\r\nX: ", "x", "\r\n\r\n"),
            long("GET /", "x", " HTTP/1.1\r\n\r\n"),
            long("", "\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            long("GET / HTTP/1.1\r\n", "a:\r\n", "\r\n"),
        ]
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_read_in_linear_time() {
        for head in long_heads() {
            let (read, _) = read_bytes(&head, 1);
            assert!(read <= 4 * HEAD_BYTES_MAX + SHORT_BYTES * SHORT_BYTES, "{read}");
        }
    }

    #[test]
    fn its_end_is_seen_with_its_last_byte() {
        for (head, piece_bytes) in long_heads().iter().zip([1, 2, 1536, 5000]) {
            assert!(read_bytes(head, piece_bytes).1);
        }
    }

    #[test]
    fn a_short_head_is_read_each_time_for_its_faults() {
        let mut rereading = Rereading::default();
        let head = [b'x'; SHORT_BYTES];
        assert!((1..=SHORT_BYTES).all(|end| rereading.is_due(&head[..end], HEAD_BYTES_MAX)));
    }

    #[test]
    fn a_head_that_reaches_its_limit_is_read_once_more_and_what_follows_is_not() {
        let mut rereading = Rereading::default();
        let bytes = [b'x'; 10_000];
        assert!(rereading.is_due(&bytes[..8000], 9000));
        assert!(!rereading.is_due(&bytes[..8999], 9000));
        assert!(rereading.is_due(&bytes[..9000], 9000));
        assert!(!rereading.is_due(&bytes[..9001], 9000));
    }

    proptest! {
        #[test]
        fn a_blank_line_is_never_missed_however_it_is_cut(
            lead in 0_usize..3, line in SHORT_BYTES..6000, cuts in prop::collection::vec(1_usize..9, 1..4),
        ) {
            let head = format!("{}{}\r\n\r\n", "\r\n".repeat(lead), "x".repeat(line));
            let mut rereading = Rereading::default();
            let mut end = head.len() - cuts.iter().sum::<usize>().min(head.len() - 1);
            let mut is_due = rereading.is_due(&head.as_bytes()[..end], HEAD_BYTES_MAX);
            for cut in cuts {
                end = (end + cut).min(head.len());
                is_due = rereading.is_due(&head.as_bytes()[..end], HEAD_BYTES_MAX);
            }
            prop_assert!(is_due);
        }
    }
}
