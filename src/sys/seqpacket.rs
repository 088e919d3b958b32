//! Two one-way channels between a process and its child. Words are one byte each and arrive in order, and each side
//! sees an end when the other is gone.
//!
//! Orders go down by a socket pair, each with or without a descriptor. News come up by a pipe, which carries no
//! descriptor: a process that receives one has to close it, and a close can wait as long as a linger time says
//! (socket(7)). Invariant: the parent never receives a descriptor that the child chose.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType,
    UnixAddr, recvmsg, sendmsg, shutdown, socketpair,
};
use nix::unistd::{pipe2, read, write};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// How often a word is read again that the kernel had no memory for: no event tells of it a second time.
const ATTEMPTS: usize = 8;

/// The sending end for orders: non-blocking, closed on exec.
#[derive(Debug)]
pub struct OrdersOut(OwnedFd);

/// The receiving end for orders: non-blocking, closed on exec.
#[derive(Debug)]
pub struct OrdersIn(OwnedFd);

/// The sending end for news: non-blocking, closed on exec.
#[derive(Debug)]
pub struct NewsOut(OwnedFd);

/// The receiving end for news: non-blocking, closed on exec.
#[derive(Debug)]
pub struct NewsIn(OwnedFd);

/// A message of the other end: a word, or a word with a descriptor.
#[derive(Debug)]
pub enum Heard<T> {
    /// No message yet.
    Nothing,
    /// A word.
    Word(T),
    /// The other end is gone, and everything that it sent was read.
    Gone,
}

/// Makes both ends of a channel for orders. The receiving end can send nothing back.
pub fn orders() -> io::Result<(OrdersOut, OrdersIn)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (out, into) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    // The kernel refuses the other end's sendmsg(2) from here on (EPIPE), whatever it would bring.
    shutdown(out.as_raw_fd(), Shutdown::Read)?;
    Ok((OrdersOut(out), OrdersIn(into)))
}

/// Makes both ends of a channel for news.
pub fn news() -> io::Result<(NewsOut, NewsIn)> {
    let (into, out) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    Ok((NewsOut(out), NewsIn(into)))
}

impl OrdersOut {
    /// Sends `word` to the other end, with a copy of `fd`. An error if too much is still unread.
    pub fn tell(&self, word: u8, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = rights.get(..fds.len()).unwrap_or_default();
        let (to, word) = (self.0.as_raw_fd(), [word]);
        let text = [IoSlice::new(&word)];
        sendmsg::<UnixAddr>(to, &text, control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }
}

impl OrdersIn {
    /// The next word, and the descriptor that came with it.
    pub fn hear(&self) -> Heard<(u8, Option<OwnedFd>)> {
        retry(|| self.try_to_hear())
    }

    fn try_to_hear(&self) -> Result<Heard<(u8, Option<OwnedFd>)>, Errno> {
        let mut word = [0];
        let mut room = nix::cmsg_space!(RawFd);
        let mut parts = [IoSliceMut::new(&mut word)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut parts, Some(&mut room), flags)?;
        if received.bytes == 0 {
            return Ok(Heard::Gone);
        }
        let mut fd = None;
        for message in received.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(fds) = message {
                // SAFETY: the kernel has just made them for us.
                fd = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).next_back();
            }
        }
        let [word] = word;
        Ok(Heard::Word((word, fd)))
    }
}

impl NewsOut {
    /// Sends `word` to the other end. An error if thousands are still unread, or the other end is gone.
    pub fn tell(&self, word: u8) -> io::Result<()> {
        write(&self.0, &[word])?;
        Ok(())
    }
}

impl NewsIn {
    /// The next word.
    pub fn hear(&self) -> Heard<u8> {
        let mut word = [0];
        retry(|| match read(&self.0, &mut word)? {
            0 => Ok(Heard::Gone),
            _ => Ok(Heard::Word(word[0])),
        })
    }
}

fn retry<T>(mut hear: impl FnMut() -> Result<Heard<T>, Errno>) -> Heard<T> {
    let tries = (0..ATTEMPTS).map(|_| hear());
    let mut heard =
        tries.skip_while(|it| matches!(it, Err(Errno::EINTR | Errno::ENOMEM | Errno::ENOBUFS)));
    match heard.next() {
        Some(Ok(heard)) => heard,
        // The failure is ours, not the other end's.
        None | Some(Err(Errno::EAGAIN)) => Heard::Nothing,
        Some(Err(_)) => Heard::Gone,
    }
}

macro_rules! is_descriptor {
    ($($end:ident)*) => { $(
        impl From<OwnedFd> for $end {
            fn from(fd: OwnedFd) -> Self {
                Self(fd)
            }
        }

        impl AsFd for $end {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
    )* };
}

is_descriptor!(OrdersOut OrdersIn NewsOut NewsIn);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn orders_come_whole_and_in_order_and_then_the_end() {
        let (out, into) = orders().unwrap();
        assert!(matches!(into.hear(), Heard::Nothing));
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"text", 0).unwrap();
        out.tell(1, None).unwrap();
        out.tell(2, Some(file.as_fd())).unwrap();
        drop((out, file));
        assert!(matches!(into.hear(), Heard::Word((1, None))));
        let Heard::Word((2, Some(fd))) = into.hear() else { panic!("no descriptor") };
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(matches!(into.hear(), Heard::Gone));
    }

    #[test]
    fn who_is_not_heard_is_told_so_in_the_end() {
        let (out, _into) = orders().unwrap();
        let full = (0..100_000).find_map(|_| out.tell(0, None).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let (out, _into) = news().unwrap();
        let full = (0..100_000).find_map(|_| out.tell(0).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn nothing_comes_back_along_a_channel_for_orders() {
        let (out, into) = orders().unwrap();
        let back = OrdersOut(into.0);
        let file = tempfile::tempfile().unwrap();
        for fd in [None, Some(file.as_fd())] {
            let refused = back.tell(1, fd).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
        }
        out.tell(1, None).unwrap();
    }

    #[test]
    fn news_come_in_order_and_then_the_end() {
        let (out, into) = news().unwrap();
        assert!(matches!(into.hear(), Heard::Nothing));
        out.tell(1).unwrap();
        out.tell(2).unwrap();
        drop(out);
        assert!(matches!(into.hear(), Heard::Word(1)));
        assert!(matches!(into.hear(), Heard::Word(2)));
        assert!(matches!(into.hear(), Heard::Gone));
    }
}
