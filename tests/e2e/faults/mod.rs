//! System calls that fail: a program that cannot start says so in a line and leaves nothing; a program that runs
//! loses a request at most. strace lets the calls fail, one by one.

mod serving;
mod starting;
mod supervising;

use std::thread;
use std::time::Duration;

use crate::harness::Pid;

pub(crate) use starting::Start;

/// How much of the time `pid` has a CPU, in hundredths.
pub(crate) fn cpu_share(pid: Pid, span: Duration) -> u128 {
    let before = pid.cpu();
    thread::sleep(span);
    (pid.cpu() - before).as_millis() * 100 / span.as_millis()
}
