//! A client's connection: a raw socket, and as much HTTP as a benchmark takes.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

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

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head(String);

impl Head {
    /// Reads a head and no byte of what follows: byte by byte, as it is not read where time counts.
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
