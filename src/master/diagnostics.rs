//! Diagnostics: one line to standard error, in one write, from every process; no thread, no buffer.
//!
//! Set up once, before the first fork; each worker writes at the level of its own generation, the master
//! at that of the one which serves.

use std::io::{self, IsTerminal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// The level that is written, which can be changed.
#[derive(Debug)]
pub(super) struct Diagnostics {
    level: reload::Handle<LevelFilter, Registry>,
}

impl Diagnostics {
    /// Begins to write what is not below `level`.
    pub(super) fn begin(level: tracing::Level) -> Self {
        let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
        let lines = fmt::layer()
            .with_writer(io::stderr)
            .with_timer(SystemTime)
            .with_target(false)
            .with_ansi(io::stderr().is_terminal());
        // It fails only if somebody has done it before, which is as good.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Self { level: handle }
    }

    /// Goes on with another level.
    pub(super) fn set_level(&self, level: tracing::Level) {
        // It fails only if nobody writes any more.
        let _ = self.level.modify(|filter| *filter = LevelFilter::from_level(level));
    }
}
