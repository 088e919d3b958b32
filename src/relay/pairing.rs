//! The pairing of a sender and a receiver: whether the sender has what the receiver lacks. Pure; `sending` asks.
//!
//! The sender offers the bytes of a file from `start` on, and the receiver wants them from some byte on. If the
//! sender starts no later than that, the bytes that the receiver has are read and dropped, and the rest is passed on.

use crate::api::OfferedFile;
use crate::config::Receipt;
use shm::{Passed, PassedFile, Settled, Want};

/// The part of a file that a sender brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The first byte of what it sends, counted from the beginning of the whole.
    pub start: u64,
    /// The file whose end it sends. `None`: a message, a stream or a form: nothing of it can be left out.
    pub file: Option<OfferedFile>,
}

/// The result of a pairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pairing {
    /// The bytes from `from` on are passed on.
    Pass {
        /// A byte of the file.
        from: u64,
    },
    /// The sender starts behind what the receiver has. It must start at `wanted`.
    StartsTooLate {
        /// A byte of the file.
        wanted: u64,
    },
    /// The receiver asks for the rest of something else.
    Unfit,
}

/// The byte at which the part of `file` begins that `want` asks for. `None`: the receiver asks for all of it, or its
/// range is ignored.
pub(super) fn part_of(file: OfferedFile, want: Want) -> Option<u64> {
    let Want::Rest { from, last, of } = want else { return None };
    let is_of_it = of.is_none_or(|of| of == file.tag.to_word());
    // aria2c names the last byte of what it asks for.
    let is_to_the_end = last.is_none_or(|last| last.checked_add(1) == Some(file.total));
    (is_of_it && is_to_the_end).then_some(from)
}

/// Pairs an offer with what a receiver wants, after `passed` has passed in the session.
pub(super) fn pair(offer: Offer, want: Want, passed: Passed) -> Pairing {
    let Some(file) = offer.file else { return pair_stream(offer.start, want) };
    let from = part_of(file, want).unwrap_or(0);
    let has_named_it = matches!(want, Want::Rest { of: Some(_), .. });
    let goes_on = match passed {
        Passed::Nothing => true,
        // The receiver's part may be of the other transfers.
        Passed::Stream | Passed::FileAfterOthers(_) => false,
        Passed::File(passed) => is_same(file, passed),
    };
    if from > 0 && (from >= file.total || !(goes_on || has_named_it)) {
        return Pairing::Unfit;
    }
    if offer.start > from {
        return Pairing::StartsTooLate { wanted: from };
    }
    Pairing::Pass { from }
}

/// A stream has no tag, so a receiver that names one takes it from the beginning.
fn pair_stream(start: u64, want: Want) -> Pairing {
    match want {
        Want::Rest { from: 1.., last: None, of: None } => Pairing::Unfit,
        _ if start > 0 => Pairing::StartsTooLate { wanted: 0 },
        _ => Pairing::Pass { from: 0 },
    }
}

/// Whether `offer` is a file that a receiver has all of already, as surely as `receipt` says. The digest `sender`
/// must match: nobody else is told about another's file.
#[must_use]
pub fn was_delivered(offer: Offer, passed: PassedFile, receipt: Receipt, sender: u64) -> bool {
    let Some(file) = offer.file else { return false };
    let is_settled = match receipt {
        Receipt::Sent => passed.whole != Settled::No,
        Receipt::Acked => has_all(passed),
    };
    is_settled && is_same(file, passed) && passed.sender == sender
}

/// Whether the last receiver has acknowledged all of it. A worker may have died before it could record that.
#[must_use]
pub fn has_all(passed: PassedFile) -> bool {
    passed.whole == Settled::Acked || (passed.total > 0 && passed.delivered == passed.total)
}

fn is_same(file: OfferedFile, passed: PassedFile) -> bool {
    (file.total, file.tag.to_word()) == (passed.total, passed.tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::FileTag;

    const FILE: OfferedFile = OfferedFile { total: 10, tag: FileTag::from_word(7) };

    fn passed(total: u64, tag: u64, whole: Settled) -> Passed {
        Passed::File(PassedFile { total, tag, delivered: 5, whole, sender: 1 })
    }

    fn open(from: u64) -> Want {
        Want::Rest { from, last: None, of: None }
    }

    fn of_file(start: u64, want: Want, passed: Passed) -> Pairing {
        pair(Offer { start, file: Some(FILE) }, want, passed)
    }

    #[test]
    fn what_the_receiver_lacks_is_passed_if_the_sender_has_it() {
        let same = passed(10, 7, Settled::No);
        for passed in [Passed::Nothing, same] {
            assert_eq!(of_file(0, Want::Whole, passed), Pairing::Pass { from: 0 });
            assert_eq!(of_file(0, open(0), passed), Pairing::Pass { from: 0 });
            assert_eq!(of_file(0, open(9), passed), Pairing::Pass { from: 9 });
            assert_eq!(of_file(4, open(4), passed), Pairing::Pass { from: 4 });
            assert_eq!(of_file(4, open(3), passed), Pairing::StartsTooLate { wanted: 3 });
            assert_eq!(of_file(1, Want::Whole, passed), Pairing::StartsTooLate { wanted: 0 });
            for beyond in [10, 11, u64::MAX] {
                assert_eq!(of_file(0, open(beyond), passed), Pairing::Unfit);
            }
        }
    }

    #[test]
    fn another_file_is_not_joined_to_what_the_receiver_has() {
        for other in [
            Passed::Stream,
            passed(11, 7, Settled::No),
            passed(10, 8, Settled::No),
            passed(11, 8, Settled::Acked),
            passed(10, 7, Settled::No).file().map_or(Passed::Stream, Passed::FileAfterOthers),
        ] {
            assert_eq!(of_file(0, open(4), other), Pairing::Unfit);
            assert_eq!(of_file(0, Want::Whole, other), Pairing::Pass { from: 0 });
            assert_eq!(of_file(0, open(0), other), Pairing::Pass { from: 0 });
            let named = |of| Want::Rest { from: 4, last: None, of: Some(of) };
            assert_eq!(of_file(0, named(7), other), Pairing::Pass { from: 4 }, "it has this one");
            assert_eq!(of_file(0, named(8), other), Pairing::Pass { from: 0 }, "as if unasked");
            assert_eq!(of_file(1, named(8), other), Pairing::StartsTooLate { wanted: 0 });
        }
    }

    #[test]
    fn a_range_that_ends_before_the_file_is_ignored() {
        let closed = |last| Want::Rest { from: 4, last: Some(last), of: None };
        assert_eq!(of_file(0, closed(9), Passed::Nothing), Pairing::Pass { from: 4 });
        for last in [8, 10, u64::MAX] {
            assert_eq!(of_file(0, closed(last), Passed::Nothing), Pairing::Pass { from: 0 });
        }
    }

    #[test]
    fn a_stream_is_passed_from_its_beginning_or_not_at_all() {
        let stream = |start, want| pair(Offer { start, file: None }, want, Passed::Stream);
        assert_eq!(stream(0, Want::Whole), Pairing::Pass { from: 0 });
        assert_eq!(stream(0, open(0)), Pairing::Pass { from: 0 });
        assert_eq!(stream(0, open(1)), Pairing::Unfit);
        assert_eq!(stream(1, open(1)), Pairing::Unfit);
        assert_eq!(stream(1, Want::Whole), Pairing::StartsTooLate { wanted: 0 });
        let named = Want::Rest { from: 1, last: None, of: Some(7) };
        assert_eq!(stream(0, named), Pairing::Pass { from: 0 });
        let closed = Want::Rest { from: 1, last: Some(4), of: None };
        assert_eq!(stream(0, closed), Pairing::Pass { from: 0 });
    }

    #[test]
    fn a_file_was_delivered_if_it_is_the_one_and_as_sure_as_is_asked() {
        let offer = Offer { start: 3, file: Some(FILE) };
        let passed = |whole| PassedFile { total: 10, tag: 7, delivered: 5, whole, sender: 1 };
        let acked = passed(Settled::Acked);
        for (whole, receipt, want) in [
            (Settled::No, Receipt::Sent, false),
            (Settled::Sent, Receipt::Sent, true),
            (Settled::Sent, Receipt::Acked, false),
            (Settled::Acked, Receipt::Sent, true),
            (Settled::Acked, Receipt::Acked, true),
        ] {
            assert_eq!(was_delivered(offer, passed(whole), receipt, 1), want);
        }
        let counted = PassedFile { delivered: 10, ..passed(Settled::No) };
        assert!(was_delivered(offer, counted, Receipt::Acked, 1), "its worker died");
        let none = Offer { start: 0, file: None };
        assert!(!was_delivered(none, acked, Receipt::Acked, 1));
        for other in [
            PassedFile { tag: 8, ..acked },
            PassedFile { total: 9, delivered: 9, ..acked },
            PassedFile { sender: 2, ..acked },
        ] {
            assert!(!was_delivered(offer, other, Receipt::Acked, 1));
        }
    }
}
