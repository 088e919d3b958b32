//! A worker that a stranger controls, and its master: whatever comes along the channel, the master neither waits
//! for the worker nor reads from it for long. The test has the worker's descriptors, without the worker's sandbox.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

#![allow(unsafe_code)]

use std::io::{ErrorKind, IoSlice, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    ControlMessage, MsgFlags, SockType, UnixAddr, getsockopt, sendmsg, sockopt,
};
use nix::unistd::write;
use socket2::SockRef;

use crate::faults::cpu_share;
use crate::harness::{Pid, Relay, Stopped, eventually, needs_root_to_look_in};
use crate::processes::reload::{exchange, expect_children};

/// How long the master would wait for bytes that cannot be sent.
const LINGER: Duration = Duration::from_secs(3600);
const SERVES: u8 = b's';

/// Takes a copy of the descriptor `number` of another process.
fn take(pid: Pid, number: u32) -> OwnedFd {
    // SAFETY: numbers in, a new descriptor or -1 out.
    unsafe {
        let pidfd = RawFd::try_from(libc::syscall(libc::SYS_pidfd_open, pid.0, 0)).unwrap();
        assert!(pidfd >= 0);
        let pidfd = OwnedFd::from_raw_fd(pidfd);
        let fd = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0);
        assert!(fd >= 0, "descriptor {number} of {pid:?}");
        OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap())
    }
}

/// The worker's ends of its channel: the socket that orders come from, and the pipe that news go to.
fn channel(worker: Pid, other: Pid) -> (OwnedFd, OwnedFd) {
    let of_other: Vec<String> = other.fds().into_iter().map(|(_, link)| link).collect();
    let own = worker.fds().into_iter().filter(|(_, link)| !of_other.contains(link));
    let (sockets, pipes): (Vec<_>, Vec<_>) = own
        .filter(|(_, link)| link.starts_with("socket:") || link.starts_with("pipe:"))
        .map(|(number, link)| (take(worker, number), link))
        .partition(|(_, link)| link.starts_with("socket:"));
    let is_orders = |fd: &OwnedFd| getsockopt(fd, sockopt::SockType) == Ok(SockType::SeqPacket);
    let orders = sockets.into_iter().map(|(fd, _)| fd).find(is_orders);
    let is_news = |fd: &OwnedFd| {
        let flags = fcntl(fd, FcntlArg::F_GETFL).unwrap();
        flags & OFlag::O_ACCMODE.bits() == OFlag::O_WRONLY.bits()
    };
    let news = pipes.into_iter().map(|(fd, _)| fd).find(is_news);
    (orders.expect("a socket for orders"), news.expect("a pipe for news"))
}

/// A connection whose close waits for a peer that reads nothing; and that peer.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut lingers = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    lingers.set_nonblocking(true).unwrap();
    while lingers.write(&[0; 1 << 16]).is_ok() {}
    lingers.set_nonblocking(false).unwrap();
    SockRef::from(&lingers).set_linger(Some(LINGER)).unwrap();
    (lingers, peer)
}

/// Sends `fd` along the worker channel.
fn send(orders: &OwnedFd, fd: RawFd) -> nix::Result<usize> {
    let rights = [ControlMessage::ScmRights(&[fd])];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<UnixAddr>(orders.as_raw_fd(), &[IoSlice::new(b"x")], &rights, flags, None)
}

#[test]
fn a_master_neither_waits_for_a_worker_nor_listens_to_one_for_ever() {
    if !needs_root_to_look_in() {
        return;
    }
    let relay = Relay::with(2, &[]);
    let workers = relay.worker_pids();
    let (orders, news) = channel(workers[0], workers[1]);

    // If the channel takes the descriptor, it holds the last copy once ours is closed, and the process that closes that
    // copy waits for the peer.
    let stopped = Stopped::hold(&[relay.master()]);
    let (lingers, peer) = lingering();
    let sent = send(&orders, lingers.as_raw_fd());
    if sent.is_err() {
        SockRef::from(&lingers).set_linger(None).unwrap();
    }
    drop(lingers);
    drop(stopped);
    let full = (0..1_000_000).find_map(|_| write(&news, &[SERVES; 64]).err());
    assert_eq!(full.map(|errno| std::io::Error::from(errno).kind()), Some(ErrorKind::WouldBlock));

    assert!(cpu_share(relay.master(), Duration::from_millis(500)) < 50, "it listens still");
    relay.reload(2, &[]);
    exchange(&relay);
    assert_eq!(sent, Err(nix::errno::Errno::EPIPE));

    // The worker's death is handled like any other.
    workers[0].signal(Signal::SIGKILL);
    expect_children(&relay, 2);
    eventually("the other drains as well", || (!workers[1].is_alive()).then_some(()));
    exchange(&relay);
    drop(peer);
}
