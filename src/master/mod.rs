//! The master: makes everything that workers share, forks them, and from then on only supervises.
//!
//! The master has one thread for life. It never parses a stranger's bytes and never reads payload. Every index that
//! it uses on shared memory comes from its own loops.

mod activation;
mod backoff;
mod decision;
mod error;
mod greeting;
mod handover;
mod heartbeat;
mod limits;
mod notify;
mod pipes;
mod program;
mod reopen_logs;
mod resources;
mod start;
mod supervisor;
mod takeover;
mod workers;

pub use error::{MasterError, explain};
pub use limits::{check_limits, open_files_needed};
pub use start::run;
pub use takeover::{PreviousProgram, previous_program, take_over};
