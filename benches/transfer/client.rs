//! Both ends of a transfer: raw sockets that send and read every byte, and as much HTTP as that takes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of one `write` or `read`.
const CALL_BYTES: usize = 256 << 10;
/// How long a peer may say nothing: so that a fault is an error and not a standstill.
const PATIENCE: Duration = Duration::from_secs(60);
const HEAD_BYTES_MAX: usize = 8192;

pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Runs both ends at once; returns the time from when they began to when `receive` was done.
pub(crate) fn transfer(
    send: impl FnOnce() -> io::Result<()>,
    receive: impl FnOnce() -> io::Result<()> + Send,
) -> io::Result<Duration> {
    std::thread::scope(|scope| {
        let start = Instant::now();
        let receiver = scope.spawn(move || receive().map(|()| start.elapsed()));
        let sent = send();
        let took = receiver.join().map_err(|_| io::Error::other("the receiver panicked"))?;
        sent.and(took)
    })
}

/// Sends so many bytes.
pub(crate) fn send(mut socket: &TcpStream, bytes: u64) -> io::Result<()> {
    let buffer: Vec<u8> = (0u8..=255).cycle().take(CALL_BYTES).collect();
    let mut left = bytes;
    while left > 0 {
        let call = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        socket.write_all(&buffer[..call])?;
        left -= call as u64;
    }
    Ok(())
}

/// Reads so many bytes.
pub(crate) fn receive(mut socket: &TcpStream, bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; CALL_BYTES];
    let mut left = bytes;
    while left > 0 {
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match socket.read(&mut buffer[..room])? {
            0 => return Err(io::Error::other(format!("{left} bytes of {bytes} did not come"))),
            read => left -= read as u64,
        }
    }
    Ok(())
}

/// Reads the end of what the peer says.
pub(crate) fn expect_end(mut socket: &TcpStream) -> io::Result<()> {
    match socket.read(&mut [0; 1])? {
        0 => Ok(()),
        _ => Err(io::Error::other("more came than was sent")),
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head(String);

impl Head {
    /// Reads a head and no byte of what follows: byte by byte, as it is read once a transfer.
    pub(crate) fn read(mut socket: &TcpStream) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte)?;
            head.extend(byte);
            if head.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("a head without an end"));
            }
        }
        String::from_utf8(head).map(Self).map_err(io::Error::other)
    }

    /// The head, if its status is this.
    pub(crate) fn expect(self, status: u16) -> io::Result<Self> {
        if self.0.starts_with(&format!("HTTP/1.1 {status} ")) {
            return Ok(self);
        }
        let line = self.0.lines().next().unwrap_or_default();
        Err(io::Error::other(format!("{line}, expected {status}")))
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> io::Result<&str> {
        let mut fields = self.0.lines().filter_map(|line| line.split_once(": "));
        let field = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value).ok_or_else(|| io::Error::other(format!("no {name}")))
    }
}
