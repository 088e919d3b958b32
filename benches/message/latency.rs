//! Times of many messages, and the two of them that are told.

use crate::measure::cpu_time;
use std::error::Error;
use std::time::Duration;

/// Of many times, that which half of them do not exceed, and that which all but a hundredth do not;
/// microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// So many messages, one after the other, each with `N` times.
#[derive(Debug)]
pub(crate) struct Batch<const N: usize> {
    messages: usize,
    times: Vec<[Duration; N]>,
}

impl<const N: usize> Batch<N> {
    pub(crate) fn of(messages: usize) -> Self {
        Self { messages, times: Vec::with_capacity(messages) }
    }

    /// Passes `warm_up` messages, then all that count; the CPU time that these cost the processes
    /// `pids`, microseconds a message.
    pub(crate) fn run(
        &mut self,
        pids: &[u32],
        warm_up: usize,
        mut pass: impl FnMut() -> Result<[Duration; N], Box<dyn Error>>,
    ) -> Result<f64, Box<dyn Error>> {
        for _ in 0..warm_up {
            pass()?;
        }
        let before = cpu_time(pids)?;
        for _ in 0..self.messages {
            self.times.push(pass()?);
        }
        Ok(micros(cpu_time(pids)? - before) / self.messages as f64)
    }

    pub(crate) fn latencies(&self) -> [Latency; N] {
        std::array::from_fn(|i| {
            let mut times: Vec<f64> = self.times.iter().map(|times| micros(times[i])).collect();
            times.sort_by(f64::total_cmp);
            let at = |hundredths: usize| times[(times.len() - 1) * hundredths / 100];
            Latency { p50: at(50), p99: at(99) }
        })
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
