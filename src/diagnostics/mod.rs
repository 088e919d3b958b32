//! Diagnostics: one event, one line to standard error, in one write, from every process; no thread, no queue.
//!
//! The master begins it, before the first fork, and `tracing` calls it; each process writes at the level and in the
//! format of its own generation. What must always hold: writing waits for nobody, so a line that finds no room is
//! dropped and counted; and nothing that is written can begin a line of its own, nor stand behind a torn one.

mod line;

use crate::config::{Log, LogFormat};
use crate::sys::sink::{self, Wrote};
use crate::sys::{clock, signal};
use crate::tally::Tally;
use crate::torn::Ends;
use line::{Dress, LINE_BYTES_MAX};
use shm::WorkerRecord;
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, IsTerminal};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// Standard error is the same for all processes.
const ENDS: Ends = Ends { torn: Tally::DiagnosticTorn, mended: Tally::DiagnosticMended };

thread_local! {
    // A process has one thread, and what it is forked with it has as well.
    static DRESS: Cell<Dress> = const { Cell::new(Dress::Plain) };
    static BOOK: Cell<Option<&'static WorkerRecord>> = const { Cell::new(None) };
    // The master's, for all processes.
    static COMMON_BOOK: Cell<Option<&'static WorkerRecord>> = const { Cell::new(None) };
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What is written, which can be changed.
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
        // The time zone is read here, for the workers as well.
        let _ = clock::local_time(0);
        let (filter, level) = reload::Layer::new(LevelFilter::from_level(log.level));
        // It fails only if somebody has done it before, which is as good.
        let _ = tracing_subscriber::registry().with(filter).with(Lines).try_init();
        let diagnostics = Self { level };
        diagnostics.change(log);
        diagnostics
    }

    /// Goes on as `log` says.
    pub fn change(&self, log: &Log) {
        DRESS.set(match log.format {
            LogFormat::Json => Dress::Json,
            LogFormat::Text if sink::stderr_is_journal() => Dress::Journal,
            LogFormat::Text if io::stderr().is_terminal() => Dress::Coloured,
            LogFormat::Text => Dress::Plain,
        });
        // It fails only if nobody writes any more.
        let _ = self.level.modify(|filter| *filter = LevelFilter::from_level(log.level));
    }
}

/// From now on this process counts lines that it drops in `record`. The first one, which is the master's, is where it
/// and all that it forks count torn ends.
pub fn count_in(record: &'static WorkerRecord) {
    BOOK.set(Some(record));
    COMMON_BOOK.set(COMMON_BOOK.get().or(Some(record)));
}

fn put(line: &[u8]) -> Wrote {
    match COMMON_BOOK.get() {
        Some(book) => ENDS.write(book, line, sink::write_stderr),
        None => sink::write_stderr(&[IoSlice::new(line)]),
    }
}

/// Writes each event as a line.
struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        LINE.with(|line| {
            // It is busy only if writing a value writes a line of its own.
            let Ok(mut line) = line.try_borrow_mut() else { return };
            line.clear();
            let now = clock::local_time(clock::unix_seconds());
            line::write(&mut line, event, DRESS.get(), &now);
            debug_assert!(line.len() <= LINE_BYTES_MAX, "{} bytes", line.len());
            if put(line.as_bytes()) != Wrote::Whole
                && let Some(book) = BOOK.get()
            {
                Tally::DiagnosticDropped.count(book);
            }
        });
    }
}
