//! The waker of a sleeping worker: an eventfd that it watches for changes and never reads.

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;

/// Wakes the worker that watches `waker`.
pub fn wake(waker: &EventFd) {
    // The count is full only if a process filled it on purpose: then it is emptied, or no wake-up would work again.
    if waker.write(1) == Err(Errno::EAGAIN) {
        let _ = waker.read();
        let _ = waker.write(1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::sys::eventfd::EfdFlags;

    #[test]
    fn one_that_was_filled_wakes_still() {
        let waker = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        waker.write(u64::MAX - 1).unwrap();
        wake(&waker);
        assert_eq!(waker.read(), Ok(1));
    }
}
