//! Both ends of a transfer: raw sockets that send and read every byte.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Bytes of one `write` or `read`.
const CALL_BYTES: usize = 256 << 10;

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
