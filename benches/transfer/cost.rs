//! What a transfer costs.

use std::time::Duration;

const GIB: f64 = (1u64 << 30) as f64;

/// One transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// GiB a second.
    pub(crate) speed: f64,
    /// CPU seconds a GiB.
    pub(crate) cost: f64,
}

impl Sample {
    pub(crate) fn new(bytes: u64, took: Duration, cpu: Duration) -> Self {
        let gib = bytes as f64 / GIB;
        Self { speed: gib / took.as_secs_f64(), cost: cpu.as_secs_f64() / gib }
    }
}
