//! *echo*: what a message costs that has to be passed from one process to another. The first one reads it
//! from a socket, puts it into shared memory and rings an eventfd; the second one sleeps on that in
//! `epoll_wait`, and writes the message to its own socket. No HTTP, one message at a time.
#![allow(unsafe_code)] // mapping the memory that the two share

use super::ARGUMENT;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::unistd::ftruncate;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = 512;
const WORD_BYTES: usize = 8;

/// The first word is the length of the message in the others.
type Shared = [AtomicU64; WORDS];

fn map(file: impl AsFd) -> io::Result<&'static Shared> {
    let bytes = NonZeroUsize::new(size_of::<Shared>()).ok_or(io::ErrorKind::InvalidInput)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the kernel chooses the address, so nothing that exists is mapped over.
    let address = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, file, 0)? };
    // SAFETY: mapped for good, readable and writable, aligned to a page, as large as `Shared`, whose
    // words may have any value and are only used atomically by both processes.
    Ok(unsafe { address.cast::<Shared>().as_ref() })
}

/// The process that reads. The second process has the eventfd as its stdin, and prints the address that it listens on.
/// The first process prints its own address once both are ready, and sends the second one's to each client that connects.
pub(super) fn serve_first(listener: &TcpListener, ready: impl Fn()) -> io::Result<Infallible> {
    let memory = memfd_create("echo", MFdFlags::empty())?;
    ftruncate(&memory, i64::try_from(size_of::<Shared>()).map_err(io::Error::other)?)?;
    let shared = map(&memory)?;
    let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ARGUMENT, "echo", &path]).stdout(Stdio::piped());
    let mut second = command.stdin(bell.as_fd().try_clone_to_owned()?).spawn()?;
    let mut line = String::new();
    BufReader::new(second.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
    ready();
    loop {
        let (mut sender, _) = listener.accept()?;
        sender.write_all(line.as_bytes())?;
        let mut message = [0; (WORDS - 1) * WORD_BYTES];
        loop {
            let bytes = sender.read(&mut message)?;
            if bytes == 0 {
                break;
            }
            for (word, piece) in shared[1..].iter().zip(message[..bytes].chunks(WORD_BYTES)) {
                let mut value = [0; WORD_BYTES];
                value[..piece.len()].copy_from_slice(piece);
                word.store(u64::from_le_bytes(value), Ordering::Relaxed);
            }
            // Release, for the Acquire of `serve_second`: the message is whole before its length is.
            shared[0].store(bytes as u64, Ordering::Release);
            bell.write(1)?;
        }
    }
}

/// The process that writes.
pub(super) fn serve_second(memory: &str) -> io::Result<Infallible> {
    let shared = map(File::options().read(true).write(true).open(memory)?)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    // Never read: each write is an edge.
    epoll.add(io::stdin(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
    let (mut receiver, mut events) = (None::<TcpStream>, [EpollEvent::empty(); 2]);
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            if event.data() == 1 {
                let socket = listener.accept()?.0;
                socket.set_nodelay(true)?;
                receiver = Some(socket);
                continue;
            }
            // Acquire: see `serve_first`.
            let bytes = usize::try_from(shared[0].load(Ordering::Acquire)).unwrap_or_default();
            let mut message = [0; (WORDS - 1) * WORD_BYTES];
            for (piece, word) in message[..bytes].chunks_mut(WORD_BYTES).zip(&shared[1..]) {
                let value = word.load(Ordering::Relaxed).to_le_bytes();
                piece.copy_from_slice(&value[..piece.len()]);
            }
            if let Some(receiver) = &mut receiver {
                receiver.write_all(&message[..bytes])?;
            }
        }
    }
}
