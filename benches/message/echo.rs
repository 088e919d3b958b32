//! The yardstick: a process that gives back what it reads and does nothing else.

use crate::connection;
use crate::yardstick::{Yardstick, listen};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Makes this program the echoing process.
pub(crate) const ARGUMENT: &str = "--echo";

const BUFFER_BYTES: usize = 256 << 10;

/// The echoing process: serves one connection after the other.
pub(crate) fn serve() -> io::Result<()> {
    let listener = listen()?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        loop {
            let bytes = socket.read(&mut buffer)?;
            if bytes == 0 {
                break;
            }
            socket.write_all(&buffer[..bytes])?;
        }
    }
}

/// The echoing process, seen from outside.
#[derive(Debug)]
pub(crate) struct Echo {
    process: Yardstick,
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Echo {
    pub(crate) fn start() -> io::Result<Self> {
        let process = Yardstick::start(ARGUMENT)?;
        let socket = connection::connect(process.address)?;
        Ok(Self { process, socket, buffer: Vec::new() })
    }

    pub(crate) fn pids(&self) -> [u32; 1] {
        [self.process.process.id()]
    }

    /// There and back.
    pub(crate) fn pass(&mut self, message: &[u8]) -> io::Result<Duration> {
        self.buffer.resize(message.len(), 0);
        let start = Instant::now();
        self.socket.write_all(message)?;
        self.socket.read_exact(&mut self.buffer)?;
        let took = start.elapsed();
        if self.buffer != message {
            return Err(io::Error::other("the echo is altered"));
        }
        Ok(took)
    }
}
