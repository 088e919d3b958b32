//! A client that is a bare socket: sends exactly the bytes that the test gives it, reads strictly, and knows how each
//! answer ended. Every read has a deadline; running into it panics with what had come so far.

mod reading;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use super::patience::{PATIENCE, eventually};
use super::proc::tcp_queues;
use super::response::Ending;
use super::tls::{self, Transport};

/// Upper bound of a head that a test reads, bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Raw {
    stream: Transport,
    /// Bytes read from the socket and not yet consumed.
    pending: Vec<u8>,
    /// The `Host` that requests carry.
    host: String,
    to_head_request: bool,
    /// The trailer fields of the last chunked body that was read to its end.
    trailer: Vec<(String, String)>,
    /// The `Trailer` field of the head whose body is being read.
    announced: String,
    /// Bytes of the heads read so far.
    pub(crate) head_bytes: u64,
}

/// The result of one step of reading a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Bytes(usize),
    End(Ending),
}

/// Progress in a body being read.
#[derive(Debug)]
pub(crate) enum BodyState {
    Length(u64),
    /// Bytes left of the current chunk; `None` before a chunk line.
    Chunk(Option<u64>),
}

impl Raw {
    /// The ways in which a client that waits can leave.
    pub(crate) const DEPARTURES: [fn(Self); 3] = [drop, Self::reset, |mut raw| {
        raw.finish();
        // The socket stays open for reading: a FIN alone must do.
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(2));
            drop(raw);
        });
    }];

    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::from_stream(TcpStream::connect(address).expect("the port refused"), address)
    }

    /// A client whose receive buffer is `bytes` (the kernel doubles it), set before the window is announced.
    pub(crate) fn connect_with_receive_buffer(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(&address.into()).expect("the port refused");
        Self::from_stream(socket.into(), address)
    }

    /// A client at `source`, one of this machine's addresses.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).expect("an address of this machine");
        socket.connect(&address.into()).expect("the port refused");
        Self::from_stream(socket.into(), address)
    }

    /// A client that speaks TLS its own way.
    pub(crate) fn connect_by(client: &Arc<ClientConfig>, address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the port refused");
        Self::with_client(stream, address, Some(Arc::clone(client)))
    }

    /// A client that speaks no TLS, whatever the port does.
    pub(crate) fn connect_plain(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the port refused");
        Self::with_client(stream, address, None)
    }

    fn from_stream(stream: TcpStream, address: SocketAddr) -> Self {
        Self::with_client(stream, address, tls::client_of(address))
    }

    fn with_client(
        stream: TcpStream,
        address: SocketAddr,
        client: Option<Arc<ClientConfig>>,
    ) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: Transport::new(stream, client),
            pending: Vec::new(),
            host: address.to_string(),
            to_head_request: false,
            trailer: Vec::new(),
            announced: String::new(),
            head_bytes: 0,
        }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.tcp().local_addr().unwrap()
    }

    /// Sets how long a read or a write may stand still from now on.
    pub(crate) fn patience(&self, limit: Duration) {
        self.stream.tcp().set_read_timeout(Some(limit)).unwrap();
        self.stream.tcp().set_write_timeout(Some(limit)).unwrap();
    }

    // Sending.

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("sending");
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A request head with `Host`, and nothing after it.
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> &mut Self {
        self.try_request(method, target, fields).expect("sending a head");
        self
    }

    pub(crate) fn try_request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> io::Result<()> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        self.to_head_request = method == "HEAD";
        self.try_send((head + "\r\n").as_bytes())
    }

    pub(crate) fn get(&mut self, target: &str) -> &mut Self {
        self.request("GET", target, &[])
    }

    /// A `PUT` with its whole body.
    pub(crate) fn put(&mut self, target: &str, body: &[u8]) -> &mut Self {
        self.request("PUT", target, &[("Content-Length", &body.len().to_string())]);
        self.send(body);
        self
    }

    pub(crate) fn send_chunk(&mut self, bytes: &[u8]) {
        let mut wire = format!("{:x}\r\n", bytes.len()).into_bytes();
        wire.extend_from_slice(bytes);
        wire.extend_from_slice(b"\r\n");
        self.send(&wire);
    }

    pub(crate) fn send_last_chunk(&mut self) {
        self.send(b"0\r\n\r\n");
    }

    /// Sends a FIN: this side sends no more.
    pub(crate) fn finish(&mut self) {
        self.stream.finish();
    }

    /// Brings a TLS handshake to its end.
    pub(crate) fn shake(&mut self) -> io::Result<()> {
        self.stream.shake()
    }

    /// The client's side of TLS.
    pub(crate) fn tls(&mut self) -> &mut ClientConnection {
        self.stream.tls().expect("it speaks TLS")
    }

    /// The line below TLS.
    pub(crate) fn line(&self) -> &TcpStream {
        self.stream.tcp()
    }

    /// Bytes taken from the kernel so far.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.stream.taken_bytes
    }

    /// Makes the client's kernel drop every packet from now on, so that the received bytes stay the same. A window that
    /// is nearly closed would let in the bytes of a probe, which the peer's kernel sends at times of its own.
    pub(crate) fn take_no_more(&self) {
        let ret = u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap();
        let bytes_kept = 0;
        let drop_all = SockFilter::new(ret, 0, 0, bytes_kept);
        SockRef::from(self.stream.tcp()).attach_filter(&[drop_all]).unwrap();
    }

    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    }

    // Receiving.

    /// Waits until all that the peer has sent so far is acknowledged, and the peer's kernel knows it.
    #[track_caller]
    pub(crate) fn wait_until_acknowledged(&self) {
        let remote = self.stream.tcp().peer_addr().unwrap();
        eventually("all is acknowledged", || {
            let (unacknowledged, _) = tcp_queues(remote, self.local_addr())?;
            (unacknowledged == 0).then_some(())
        });
    }

    /// True when an answer, or the connection's end, has come; waits a millisecond at most.
    pub(crate) fn has_news(&mut self) -> bool {
        self.stream.tcp().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let news = !self.fill().is_err_and(|e| e.kind() == ErrorKind::TimedOut);
        self.stream.tcp().set_read_timeout(Some(PATIENCE)).unwrap();
        news
    }

    /// Reads more bytes into `pending`; 0 at the end of the stream.
    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        let n = loop {
            match self.stream.read(&mut buffer) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let n = n.map_err(|e| self.explain(e))?;
        self.pending.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    fn explain(&self, error: io::Error) -> io::Error {
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            let shown =
                String::from_utf8_lossy(&self.pending[..self.pending.len().min(512)]).into_owned();
            return io::Error::new(
                ErrorKind::TimedOut,
                format!("silence; unread so far: {shown:?}"),
            );
        }
        error
    }

    /// Exactly `n` bytes of the stream, whatever they mean.
    #[track_caller]
    pub(crate) fn read_exactly(&mut self, n: usize) -> Vec<u8> {
        while self.pending.len() < n {
            assert!(
                self.fill().expect("reading") > 0,
                "closed after {} of {n} bytes",
                self.pending.len()
            );
        }
        self.pending.drain(..n).collect()
    }

    /// Reads to the end of the stream: its bytes, and how it ended.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, Ending) {
        let ending = loop {
            match self.fill() {
                Ok(0) => break Ending::Complete,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => break Ending::Truncated,
                Err(e)
                    if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) =>
                {
                    break Ending::Reset;
                }
                Err(e) => panic!("reading to the end: {e}"),
            }
        };
        (std::mem::take(&mut self.pending), ending)
    }

    /// Panics unless the peer closes, without another byte and without a reset.
    #[track_caller]
    pub(crate) fn expect_close(&mut self) {
        let n = self.fill().unwrap_or_else(|e| panic!("instead of a close: {e}"));
        assert!(
            n == 0 && self.pending.is_empty(),
            "more: {:?}",
            String::from_utf8_lossy(&self.pending)
        );
    }

    /// True once the peer has ended the connection, by a close or a reset, within `limit`. Bytes on the way are dropped.
    pub(crate) fn is_gone_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left =
                deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.tcp().set_read_timeout(Some(left)).unwrap();
            match self.fill() {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::TimedOut => return false,
                Err(_) => return true,
            }
        }
    }

    /// Panics if a byte or the end arrives within `span`.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self, span: Duration) {
        assert!(
            self.pending.is_empty(),
            "already here: {:?}",
            String::from_utf8_lossy(&self.pending)
        );
        self.stream.tcp().set_read_timeout(Some(span)).unwrap();
        match self.fill() {
            Err(e) if e.kind() == ErrorKind::TimedOut => {}
            Ok(0) => panic!("closed instead of silence"),
            Ok(_) => panic!("instead of silence: {:?}", String::from_utf8_lossy(&self.pending)),
            Err(e) => panic!("instead of silence: {e}"),
        }
        self.stream.tcp().set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

/// A sender that streams: any writer's work goes to the socket.
impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
