//! The attackers' process: a fork of this one, in a session of its own. Attackers and honest clients in one process would
//! wait for each other's locks, in the kernel and in the allocator.
//!
//! The attack lasts until the parent closes a pipe, or dies. The attackers' counts come back by another pipe.

use crate::bots::{self, Acted};
use crate::run::Scale;
use crate::scenes::Scene;
use crate::target::Target;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, setsid};
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The most that a process can stand back, as nice(2) has it.
const NICE_MAX: i32 = 19;

/// A running attack.
#[derive(Debug)]
pub(crate) struct Storm {
    pid: Pid,
    /// While it is open the attack lasts.
    lasts: PipeWriter,
    acted: PipeReader,
}

impl Storm {
    /// Begins to attack `target`.
    pub(crate) fn start(target: &Target, scene: &Scene, scale: &Scale) -> io::Result<Self> {
        let (ends, lasts) = io::pipe()?;
        let (acted, tell) = io::pipe()?;
        // SAFETY: the child does not return. The child takes no lock that another thread may hold but the allocator's, which
        // fork(3) of the C library leaves in order.
        #[allow(unsafe_code)]
        let forked = unsafe { fork() }?;
        match forked {
            ForkResult::Parent { child } => Ok(Self { pid: child, lasts, acted }),
            ForkResult::Child => {
                drop((lasts, acted));
                let result = catch_unwind(AssertUnwindSafe(|| {
                    stand_back();
                    attack(target, scene, scale, ends).tell(tell)
                }));
                exit(i32::from(!matches!(result, Ok(Ok(())))));
            }
        }
    }

    /// Ends it. Returns what the attackers did.
    pub(crate) fn end(self) -> io::Result<Acted> {
        let Self { pid, lasts, mut acted } = self;
        drop(lasts);
        let mut told = String::new();
        acted.read_to_string(&mut told)?;
        waitpid(pid, None)?;
        Acted::read(&told).ok_or_else(|| io::Error::other(format!("the attackers said {told:?}")))
    }
}

impl Acted {
    fn tell(self, mut to: PipeWriter) -> io::Result<()> {
        let Self { attackers, opened, done, refused, broken } = self;
        writeln!(to, "{attackers} {opened} {done} {refused} {broken}")
    }

    fn read(told: &str) -> Option<Self> {
        let numbers: Result<Vec<u64>, _> = told.split_whitespace().map(str::parse).collect();
        let [attackers, opened, done, refused, broken] = numbers.ok()?.try_into().ok()?;
        Some(Self { attackers, opened, done, refused, broken })
    }
}

/// Attacks until the other end of `ends` is closed.
fn attack(target: &Target, scene: &Scene, scale: &Scale, mut ends: PipeReader) -> Acted {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = ends.read(&mut [0]);
            is_over.store(true, Ordering::Relaxed);
        });
        bots::storm(target, scene, scale, &is_over)
    })
}

/// Leaves the CPUs to the relay and the honest clients as far as they want them: real attackers bring CPUs of their own.
/// Hundreds of threads that are only nice have most of two CPUs together; so the kernel is asked to weigh the session as one
/// (autogroup), where it does that.
fn stand_back() {
    let _ = setsid();
    let _ = fs::write("/proc/self/autogroup", NICE_MAX.to_string());
    let _ = rustix::process::nice(NICE_MAX);
}

/// Ends the process, and nothing that its parent has too: no destructor runs.
fn exit(code: i32) -> ! {
    // SAFETY: it ends the process.
    #[allow(unsafe_code)]
    unsafe {
        nix::libc::_exit(code)
    }
}
