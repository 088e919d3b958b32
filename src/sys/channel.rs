//! A channel between a process and one that it forked: messages of one byte, each with a descriptor or
//! without one. Whole messages, in their order, and an end that the other side sees when this one is gone.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// How often a message is asked for that the kernel has no memory for: no event tells of it a second time.
const ATTEMPTS: usize = 8;

/// One end of it: non-blocking, closed on exec.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What came from the other end.
#[derive(Debug)]
pub enum Heard {
    /// Nothing yet.
    Nothing,
    /// A message, and the descriptor that came with it.
    Message(u8, Option<OwnedFd>),
    /// The other end is gone, and all that it said was heard.
    Gone,
}

impl Channel {
    /// Makes both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(one), Self(other)))
    }

    /// Says `word` to the other end, which comes to have `fd` as well. An error where so much is still
    /// unheard that it does not fit.
    pub fn tell(&self, word: u8, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = rights.get(..fds.len()).unwrap_or_default();
        sendmsg::<UnixAddr>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&[word])],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// The next message.
    pub fn hear(&self) -> Heard {
        let tries = (0..ATTEMPTS).map(|_| self.try_to_hear());
        let mut heard =
            tries.skip_while(|it| matches!(it, Err(Errno::EINTR | Errno::ENOMEM | Errno::ENOBUFS)));
        match heard.next() {
            Some(Ok(heard)) => heard,
            // It is not the other end that has failed.
            None | Some(Err(Errno::EAGAIN)) => Heard::Nothing,
            Some(Err(_)) => Heard::Gone,
        }
    }

    fn try_to_hear(&self) -> Result<Heard, Errno> {
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
        Ok(Heard::Message(word.into_iter().next().unwrap_or(0), fd))
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn messages_come_whole_and_in_order_and_then_the_end() {
        let (one, other) = Channel::pair().unwrap();
        assert!(matches!(other.hear(), Heard::Nothing));
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"text", 0).unwrap();
        one.tell(1, None).unwrap();
        one.tell(2, Some(file.as_fd())).unwrap();
        drop((one, file));
        assert!(matches!(other.hear(), Heard::Message(1, None)));
        let Heard::Message(2, Some(fd)) = other.hear() else { panic!("no descriptor") };
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(matches!(other.hear(), Heard::Gone));
    }

    #[test]
    fn who_is_not_heard_is_told_so_in_the_end() {
        let (one, _other) = Channel::pair().unwrap();
        let full = (0..100_000).find_map(|_| one.tell(0, None).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }
}
