//! The starving of a lane that holds no chunk and gets none. `sending` asks, and a party of a pair.
//!
//! No bell rings for a freed chunk, so the lane asks again and again. The more lanes wait, the longer it takes until it
//! is this lane's turn.

use super::{Cx, LOOK_ANYWAY_MS};
use crate::sys::clock::millis;

/// The interval at which a lane without a chunk asks again.
const POLL_MS: u64 = 10;

/// The time since when there is no chunk at all for a lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Starving {
    since_ms: Option<u64>,
}

impl Starving {
    /// The lane got a chunk.
    pub(super) fn end(&mut self) {
        self.since_ms = None;
    }

    /// The lane has none: the time to ask again. `None`: it has waited for too long. A lane that
    /// `has_begun` waits longer than other lanes.
    pub(super) fn poll(&mut self, cx: Cx<'_>, has_begun: bool) -> Option<u64> {
        let turns = 1 + cx.env.shared().pool().requests_per_chunk();
        let patience = millis(cx.env.config.timeouts.chunk_wait);
        let patience = if has_begun { patience.saturating_mul(turns) } else { patience };
        let since_ms = *self.since_ms.get_or_insert(cx.now_ms);
        let poll_ms = POLL_MS.saturating_mul(turns).min(LOOK_ANYWAY_MS);
        let is_over = cx.now_ms >= since_ms.saturating_add(patience);
        (!is_over).then(|| cx.now_ms.saturating_add(poll_ms))
    }
}
