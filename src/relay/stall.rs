//! The stall of a receiver: it takes nothing, while other lanes request the chunks that its lane holds. `answering`
//! asks whenever the socket is full.
//!
//! Chunks come back only as fast as the receiver reads. While there are enough chunks that harms nobody, and a phone
//! that has lost its network may come back. Once another lane requests a chunk, a receiver that keeps to the minimum
//! rate keeps its chunks, and a slower one gives them up. The lane that holds the most goes first.

use super::Env;
use crate::sys::clock::millis;
use shm::ReceiverEnd;

/// Watches one receiver, a span after another.
#[derive(Debug)]
pub(super) struct Stall {
    began_ms: u64,
    /// Payload bytes that the receiver's TCP had acknowledged when the span began.
    began_at: u64,
}

impl Stall {
    pub(super) fn new(position: u64, now_ms: u64) -> Self {
        Self { began_ms: now_ms, began_at: position }
    }

    /// Whether `end`, whose receiver has acknowledged `position` bytes, gives up, as others need what its lane holds.
    pub(super) fn gives_up(
        &mut self,
        env: &Env,
        end: &mut ReceiverEnd,
        position: u64,
        now_ms: u64,
    ) -> bool {
        let patience_ms = patience_ms(
            millis(env.config.timeouts.stall_timeout),
            end.in_flight(),
            env.shared().lane_chunks() as u64,
        );
        let rate = env.config.limits.stall_rate_bytes_min;
        if !self.is_over(rate, patience_ms, position, now_ms) {
            return false;
        }
        let wide_factor = env.config.limits.wide_network_factor;
        // If the words of a lane are refused, its next turn ends the transfer.
        end.attach(env.shared()).and_then(|end| end.yields_chunk(wide_factor)).unwrap_or(false)
    }

    /// Whether a span has ended with less than the minimum. A span with enough begins anew.
    fn is_over(&mut self, rate: u64, patience_ms: u64, position: u64, now_ms: u64) -> bool {
        let minimum = rate.saturating_mul(patience_ms) / 1000;
        if position.saturating_sub(self.began_at) >= minimum {
            *self = Self::new(position, now_ms);
            return false;
        }
        now_ms >= self.began_ms.saturating_add(patience_ms)
    }
}

/// The time for which a lane may stand still: `timeout_ms` if it holds all it may, up to twice as long if it holds
/// less.
fn patience_ms(timeout_ms: u64, in_flight: u64, most: u64) -> u64 {
    let spare = most.saturating_sub(in_flight);
    timeout_ms.saturating_add(timeout_ms.saturating_mul(spare).checked_div(most).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_the_most_is_given_up_first() {
        assert_eq!(patience_ms(10_000, 4, 4), 10_000);
        assert_eq!(patience_ms(10_000, 1, 4), 17_500);
        assert_eq!(patience_ms(10_000, 9, 4), 10_000);
        assert_eq!(patience_ms(10_000, 1, 0), 10_000);
    }

    #[test]
    fn a_span_with_too_little_is_over_and_stays_so() {
        let mut stall = Stall::new(1000, 0);
        assert!(!stall.is_over(4096, 10_000, 1000, 9_999));
        // 4 KiB each 20 s: a tenth of what is asked for.
        assert!(stall.is_over(4096, 10_000, 1000 + 4096, 10_000));
        assert!(stall.is_over(4096, 10_000, 1000 + 40_959, 60_000));
        assert!(!stall.is_over(4096, 10_000, 1000 + 40_960, 60_000));
        assert!(!stall.is_over(4096, 10_000, 1000 + 40_960, 69_999));
        assert!(stall.is_over(4096, 10_000, 1000 + 40_960, 70_000));
    }

    #[test]
    fn no_minimum_means_that_nobody_stalls() {
        assert!(!Stall::new(0, 0).is_over(0, 10_000, 0, 1_000_000));
    }
}
