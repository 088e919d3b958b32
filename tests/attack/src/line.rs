//! A connection to the relay, plain or with TLS, and the little HTTP that its clients need.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// A head that is longer is none.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Records that are made before they are written: fewer than a client's buffer holds.
const RECORDS_MAX: usize = 1000;

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    stream: Stream,
    /// Bytes that were read and belong to what comes next.
    pending: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// The beginning of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    text: String,
}

impl Head {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.text.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, it)| it)
    }
}

impl Line {
    pub(crate) fn new(tcp: TcpStream, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        let stream = match tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
                let client = ClientConnection::new(config, name).map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(client, tcp)))
            }
        };
        Ok(Self { stream, pending: Vec::new() })
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref(),
        }
    }

    /// How long a read or a write may stand still from now on.
    pub(crate) fn patience(&self, limit: Duration) -> io::Result<()> {
        self.tcp().set_read_timeout(Some(limit))?;
        self.tcp().set_write_timeout(Some(limit))
    }

    /// Brings the TLS handshake to its end.
    pub(crate) fn shake(&mut self) -> io::Result<()> {
        let Stream::Tls(tls) = &mut self.stream else { return Ok(()) };
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(())
    }

    /// Writes some of `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    /// Writes some of `bytes`, each in a TLS record of its own.
    pub(crate) fn write_records(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Stream::Tls(tls) = &mut self.stream else { return self.write(bytes) };
        if tls.conn.wants_write() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        let records = bytes.len().min(RECORDS_MAX);
        for byte in bytes.iter().take(records) {
            tls.conn.writer().write_all(std::slice::from_ref(byte))?;
        }
        // Bytes that find no room now are written first the next time.
        let _ = tls.conn.complete_io(&mut tls.sock);
        Ok(records)
    }

    /// Writes all of `bytes`.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    /// Sends a request's head: its first line without the version, and fields, each with its line end.
    pub(crate) fn request(&mut self, line: &str, fields: &str) -> io::Result<()> {
        self.send(format!("{line} HTTP/1.1\r\nHost: relay\r\n{fields}\r\n").as_bytes())
    }

    /// Reads some bytes; 0 at the end.
    pub(crate) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if !self.pending.is_empty() {
            let bytes = room.len().min(self.pending.len());
            room.iter_mut().zip(self.pending.drain(..bytes)).for_each(|(to, from)| *to = from);
            return Ok(bytes);
        }
        self.fill(room)
    }

    fn fill(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.read(room),
            Stream::Tls(tls) => tls.read(room),
        }
    }

    /// Reads until `end` has come; returns all up to and with it.
    fn read_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        let mut room = [0; 4096];
        loop {
            let found = self.pending.windows(end.len()).position(|window| window == end);
            if let Some(at) = found {
                return Ok(self.pending.drain(..at + end.len()).collect());
            }
            if self.pending.len() > HEAD_BYTES_MAX {
                return Err(io::Error::new(ErrorKind::InvalidData, "an endless head or line"));
            }
            let bytes = self.fill(&mut room)?;
            if bytes == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed before an answer"));
            }
            self.pending.extend_from_slice(room.get(..bytes).unwrap_or_default());
        }
    }

    /// The head of the next answer that is not an interim one.
    pub(crate) fn head(&mut self) -> io::Result<Head> {
        loop {
            let text = String::from_utf8_lossy(&self.read_until(b"\r\n\r\n")?).into_owned();
            let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
            let invalid = || io::Error::new(ErrorKind::InvalidData, format!("no answer: {text}"));
            let status: u16 = status.ok_or_else(invalid)?;
            if status >= 200 {
                return Ok(Head { status, text });
            }
        }
    }

    /// Reads the body behind `head` to its end, which has to be whole, and gives its pieces to `sink`.
    pub(crate) fn body(&mut self, head: &Head, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        if let Some(length) = head.field("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            return self.piece(length, &mut sink);
        }
        loop {
            let line = self.read_until(b"\r\n")?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            self.piece(size, &mut sink)?;
            self.read_until(b"\r\n")?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn piece(&mut self, bytes: u64, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut room = vec![0; 64 << 10];
        let mut left = bytes;
        while left > 0 {
            let most = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let bytes = self.read(room.get_mut(..most).unwrap_or_default())?;
            if bytes == 0 {
                let text = format!("cut with {left} bytes missing");
                return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
            }
            sink(room.get(..bytes).unwrap_or_default());
            left -= bytes as u64;
        }
        Ok(())
    }

    /// An answer with a short text, which has to have this status.
    pub(crate) fn expect(&mut self, status: u16) -> io::Result<(Head, String)> {
        let head = self.head()?;
        let mut body = Vec::new();
        self.body(&head, |piece| body.extend_from_slice(piece))?;
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        if head.status != status {
            return Err(io::Error::other(format!("answered {}: {text}", head.status)));
        }
        Ok((head, text))
    }

    /// Asks for a session; returns its path.
    pub(crate) fn session(&mut self) -> io::Result<String> {
        self.request("POST /", "")?;
        let (head, _) = self.expect(201)?;
        let location = head.field("location").unwrap_or_default();
        let key = location.rsplit('/').next().unwrap_or_default();
        Ok(format!("/{key}"))
    }
}
