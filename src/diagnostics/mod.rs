//! Diagnostics: one event, one line to standard error, in one write, from every process; no thread, no queue.
//!
//! The master sets it up before the first fork, and `tracing` calls it. Each process writes at the level and in the
//! format of its own generation. Invariant: writing never waits, so a line that finds no room is dropped and counted.
//! Nothing that is written can begin a line of its own, or stand behind a torn one.

mod line;

use crate::config::{Log, LogFormat};
use crate::sys::sink::{self, Wrote};
use crate::sys::{clock, signal};
use crate::tally::Tally;
use crate::torn::Ends;
use line::{LINE_BYTES_MAX, LineFormat};
use shm::WorkerRecord;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, IsTerminal};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// All processes share standard error.
const ENDS: Ends = Ends { torn: Tally::DiagnosticTorn, mended: Tally::DiagnosticMended };

thread_local! {
    // A process has one thread, and a child inherits its values.
    static LINE_FORMAT: Cell<LineFormat> = const { Cell::new(LineFormat::Plain) };
    static COUNTERS: Cell<Option<&'static WorkerRecord>> = const { Cell::new(None) };
    // The master's, for all processes.
    static COMMON_BOOK: Cell<Option<&'static WorkerRecord>> = const { Cell::new(None) };
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The lines that are written, which a reload can change.
#[derive(Debug)]
pub struct Diagnostics {
    level: reload::Handle<LevelFilter, Registry>,
}

impl Diagnostics {
    /// Begins to write as `log` says.
    #[must_use]
    pub fn begin(log: &Log) -> Self {
        sink::unblock_stderr();
        signal::survive_file_limit();
        // Reads the time zone here, for the workers as well.
        let _ = clock::local_time(0);
        let (filter, level) = reload::Layer::new(LevelFilter::from_level(log.level));
        // Setting it fails only if it is set already, which is as good.
        let _ = tracing_subscriber::registry().with(filter).with(Lines).try_init();
        let diagnostics = Self { level };
        diagnostics.change(log);
        diagnostics
    }

    /// Goes on as `log` says.
    pub fn change(&self, log: &Log) {
        LINE_FORMAT.set(match log.format {
            LogFormat::Json => LineFormat::Json,
            LogFormat::Text if sink::stderr_is_journal() => LineFormat::Journal,
            LogFormat::Text if io::stderr().is_terminal() => LineFormat::Coloured,
            LogFormat::Text => LineFormat::Plain,
        });
        // Writing fails only if nobody writes any more.
        let _ = self.level.modify(|filter| *filter = LevelFilter::from_level(log.level));
    }
}

/// Makes this process count dropped lines in `record`. The first such record is the master's: the master and all its
/// children count torn ends there.
pub fn count_with(record: &'static WorkerRecord) {
    COUNTERS.set(Some(record));
    COMMON_BOOK.set(COMMON_BOOK.get().or(Some(record)));
}

fn put(line: &[u8]) -> Wrote {
    match COMMON_BOOK.get() {
        Some(counters) => ENDS.write(counters, line, sink::write_stderr),
        None => sink::write_stderr(&[IoSlice::new(line)]),
    }
}

/// Writes each event as a line.
struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        LINE.with(|line| {
            // The buffer is busy only if writing a value writes a line of its own.
            let Ok(mut line) = line.try_borrow_mut() else { return };
            line.clear();
            let now = clock::local_time(clock::unix_seconds());
            line::write(&mut line, event, LINE_FORMAT.get(), &now);
            debug_assert!(line.len() <= LINE_BYTES_MAX, "{} bytes", line.len());
            if put(line.as_bytes()) != Wrote::Whole
                && let Some(counters) = COUNTERS.get()
            {
                Tally::DiagnosticDropped.count(counters);
            }
        });
    }
}
