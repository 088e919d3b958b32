//! Calls that mio does not offer: a listener that wakes one worker, not all, and a socket that is watched for
//! breaking only.
//!
//! `EPOLLEXCLUSIVE` wakes the worker that has waited longest in the listener's queue, always the
//! same one while it is quick enough. So a worker that has accepted goes to the end of the queue by
//! leaving it and joining again.

use mio::{Poll, Registry, Token};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// Watches `listener` for connections, level-triggered, in turn with other processes.
pub fn add_exclusive(poll: &Poll, listener: RawFd, token: Token) -> io::Result<()> {
    let events = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE).cast_unsigned();
    let mut event = libc::epoll_event { events, u64: token.0 as u64 };
    control(poll, libc::EPOLL_CTL_ADD, listener, &raw mut event)
}

/// Makes `socket`, which `registry` watches, give an event when it breaks, and for nothing else.
pub fn watch_for_breaking(registry: &Registry, socket: RawFd, token: Token) -> io::Result<()> {
    // Errors and hang-ups are always told.
    let events = libc::EPOLLET.cast_unsigned();
    let mut event = libc::epoll_event { events, u64: token.0 as u64 };
    control(registry, libc::EPOLL_CTL_MOD, socket, &raw mut event)
}

/// Stops watching `listener`.
pub fn remove(poll: &Poll, listener: RawFd) -> io::Result<()> {
    control(poll, libc::EPOLL_CTL_DEL, listener, std::ptr::null_mut())
}

fn control(
    epoll: &impl AsRawFd,
    op: i32,
    fd: RawFd,
    event: *mut libc::epoll_event,
) -> io::Result<()> {
    // SAFETY: `event` is null, which EPOLL_CTL_DEL allows, or points to an event that lives through
    // the call; the kernel keeps neither. Bad descriptors give an error.
    match unsafe { libc::epoll_ctl(epoll.as_raw_fd(), op, fd, event) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
