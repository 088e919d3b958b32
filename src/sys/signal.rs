//! Signals as something to read, so that they only record and one loop decides.

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;

/// Blocks `signals`, and no others, whatever was inherited; gives a descriptor that tells of them. One
/// that was blocked before, and came, is told as well.
pub fn listen(signals: &[Signal]) -> io::Result<SignalFd> {
    let set = block(signals)?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Lets ends of children be told, whatever was inherited: where they are ignored, the kernel reaps for us, and how a
/// child ended is lost.
pub fn hear_of_children() {
    // SAFETY: no handler of ours is installed.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// Lets a file that may not grow any more (`RLIMIT_FSIZE`) be a write that fails, and not a death.
pub fn survive_file_limit() {
    // SAFETY: no handler of ours is installed.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// The next signal that has come, if there is one.
pub fn next(from: &SignalFd) -> Option<Signal> {
    loop {
        let info = from.read_signal().ok()??;
        let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
        // Whoever resizes a terminal does not ask for anything.
        if signal != Signal::SIGWINCH || info.ssi_code != libc::SI_KERNEL {
            return Some(signal);
        }
    }
}

/// Blocks `signals`, and no others: they stay unheard.
pub fn block(signals: &[Signal]) -> io::Result<SigSet> {
    let set: SigSet = signals.iter().copied().collect();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None)?;
    Ok(set)
}
