//! A connection of the load generator, plain or TLS, for blocking and non-blocking use alike.

use crate::Outcome;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// How long a blocking read may take: so that a fault is an error and not a standstill.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the line that are read at once, and the most that is sealed before the socket takes it.
const TLS_CALL_BYTES: usize = 256 << 10;

/// The TLS configuration that the generator speaks with.
pub(crate) type Tls = Arc<rustls::ClientConfig>;

#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<Session>),
}

/// A TLS session over a socket. The session has a buffer of its own, because rustls asks a socket for 4 KiB at a
/// time.
#[derive(Debug)]
pub(crate) struct Session {
    socket: TcpStream,
    state: Connection,
    line: Vec<u8>,
    unread: Range<usize>,
}

impl Stream {
    /// Connects, and shakes hands if there is `tls` to do so; blocking.
    pub(crate) fn connect(address: SocketAddr, tls: Option<&Tls>) -> Outcome<Self> {
        let socket = TcpStream::connect(address)?;
        Self::over(socket, tls)
    }

    /// The same over a socket that is connected.
    pub(crate) fn over(socket: TcpStream, tls: Option<&Tls>) -> Outcome<Self> {
        let state = tls.map(|tls| {
            let name = ServerName::try_from("localhost")?;
            Outcome::Ok(Connection::from(ClientConnection::new(Arc::clone(tls), name)?))
        });
        Self::shake_hands(socket, state.transpose()?)
    }

    /// Shakes hands over a socket that was accepted, as an origin.
    pub(crate) fn accepted(socket: TcpStream, tls: Option<&Arc<ServerConfig>>) -> Outcome<Self> {
        let state = tls.map(|tls| ServerConnection::new(Arc::clone(tls)));
        Self::shake_hands(socket, state.transpose()?.map(Connection::from))
    }

    fn shake_hands(mut socket: TcpStream, state: Option<Connection>) -> Outcome<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let Some(mut state) = state else { return Ok(Self::Plain(socket)) };
        state.set_buffer_limit(Some(TLS_CALL_BYTES));
        while state.is_handshaking() {
            state.complete_io(&mut socket)?;
        }
        let (line, unread) = (vec![0; TLS_CALL_BYTES], 0..0);
        Ok(Self::Tls(Box::new(Session { socket, state, line, unread })))
    }

    /// The same connection once more, so that its bytes may pass both ways at once. The state of TLS cannot be shared.
    pub(crate) fn share(&self) -> Outcome<Self> {
        match self {
            Self::Plain(socket) => Ok(Self::Plain(socket.try_clone()?)),
            Self::Tls(_) => Err("a connection with TLS was to be shared".into()),
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session) => &session.socket,
        }
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        self.socket().set_nonblocking(true)
    }

    /// Whether there may be more to read though the socket has nothing.
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(session) => session.read(buffer),
        }
    }

    /// Fills the buffer.
    pub(crate) fn read_exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => buffer = &mut buffer[bytes..],
            }
        }
        Ok(())
    }

    /// Takes some of `bytes`; what was taken may still have to be flushed.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(session) => session.write(bytes),
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(session) => session.push(),
        }
    }

    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.write(bytes)?;
            bytes = &bytes[taken..];
        }
        self.flush()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shutdown(&mut self) -> io::Result<()> {
        if let Self::Tls(session) = self {
            session.state.send_close_notify();
            session.push()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }
}

impl Session {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.state.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.unread.is_empty() {
                self.unread = 0..self.socket.read(&mut self.line)?;
            }
            // An empty slice tells the session of the end.
            let taken = self.state.read_tls(&mut &self.line[self.unread.clone()])?;
            self.unread.start += taken;
            self.state.process_new_packets().map_err(io::Error::other)?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push()?;
        let taken = self.state.writer().write(bytes)?;
        match self.push() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Writes what is sealed.
    fn push(&mut self) -> io::Result<()> {
        while self.state.wants_write() {
            self.state.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}
