//! Signals as something to read, so that a signal only records and one loop decides.

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;

/// Blocks `signals`, and no others, whatever was inherited, and returns a descriptor to read them from. A signal that
/// came while it was blocked arrives as well.
pub fn listen(signals: &[Signal]) -> io::Result<SignalFd> {
    let set = block(signals)?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Makes ends of children heard, whatever was inherited: if they are ignored, the kernel reaps for us, and how a
/// child ended is lost.
pub fn hear_of_children() {
    // SAFETY: no handler of ours is installed.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// Makes a write beyond `RLIMIT_FSIZE` fail instead of killing the process.
pub fn survive_file_limit() {
    // SAFETY: no handler of ours is installed.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// The next signal, if one has come.
pub fn next(from: &SignalFd) -> Option<Signal> {
    loop {
        let info = from.read_signal().ok()??;
        let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
        // A terminal that is resized asks for nothing.
        if signal != Signal::SIGWINCH || info.ssi_code != libc::SI_KERNEL {
            return Some(signal);
        }
    }
}

/// Blocks `signals`, and no others, unread.
pub fn block(signals: &[Signal]) -> io::Result<SigSet> {
    let set: SigSet = signals.iter().copied().collect();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None)?;
    Ok(set)
}
