//! A client that is a bare socket: sends exactly the bytes it is told, reads strictly, and knows how each answer ended.
//! Every read has a deadline; running into it panics with what had come so far.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{mem, thread};

use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, SockRef, Socket, Type};

use super::patience::{PATIENCE, eventually};
use super::proc::tcp_queues;
use super::response::{BodyFraming, Ending, Head, Response};
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
    /// What the head of the body being read says in `Trailer`.
    announced: String,
    /// Bytes of the heads read so far.
    pub(crate) head_bytes: u64,
}

/// What one step of reading a body gave.
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
    /// The ways for one that waits to go.
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

    /// How long a read or a write may stand still from now on.
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

    /// A FIN: this side has said all.
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

    /// The next head, interim or final; an error when the connection ends before it.
    pub(crate) fn try_read_head(&mut self) -> io::Result<Head> {
        loop {
            if let Some(end) = find(&self.pending, b"\r\n\r\n") {
                let bytes: Vec<u8> = self.pending.drain(..end + 4).collect();
                self.head_bytes += bytes.len() as u64;
                return Ok(Head::parse(&bytes));
            }
            assert!(self.pending.len() < HEAD_BYTES_MAX, "endless head");
            if self.fill()? == 0 {
                let text = format!("closed with {} bytes of a head", self.pending.len());
                return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
            }
        }
    }

    #[track_caller]
    pub(crate) fn read_head(&mut self) -> Head {
        self.try_read_head().unwrap_or_else(|e| panic!("no head: {e}"))
    }

    /// Reads an interim `100` and nothing else.
    #[track_caller]
    pub(crate) fn read_continue(&mut self) {
        let head = self.read_head();
        assert_eq!(head.status, 100, "{head:#?}");
        assert!(self.pending.is_empty(), "bytes after the interim answer");
    }

    /// The next final answer, whole or as far as it came.
    #[track_caller]
    pub(crate) fn read_response(&mut self) -> Response {
        self.try_read_response().unwrap_or_else(|e| panic!("no answer: {e}"))
    }

    pub(crate) fn try_read_response(&mut self) -> io::Result<Response> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.try_read_head()?;
            if !head.is_interim() {
                break head;
            }
            interim.push(head.status);
        };
        let mut body = Vec::new();
        let ending = self.read_body(&head, |bytes| body.extend_from_slice(bytes));
        let trailer = self.take_trailer();
        Ok(Response { interim, head, body, trailer, ending })
    }

    /// Reads the body that belongs to `head`, handing each piece to `sink`.
    pub(crate) fn read_body(&mut self, head: &Head, mut sink: impl FnMut(&[u8])) -> Ending {
        let Some(mut state) = self.body_of(head) else { return Ending::Complete };
        let mut buffer = vec![0; 512 << 10];
        loop {
            match self.read_piece(&mut state, &mut buffer) {
                Piece::Bytes(n) => sink(&buffer[..n]),
                Piece::End(ending) => return ending,
            }
        }
    }

    pub(crate) fn body_of(&mut self, head: &Head) -> Option<BodyState> {
        self.trailer.clear();
        self.announced = head.field("Trailer").unwrap_or_default().to_owned();
        match head.framing(self.to_head_request) {
            BodyFraming::None => None,
            BodyFraming::Length(n) => Some(BodyState::Length(n)),
            BodyFraming::Chunked => Some(BodyState::Chunk(None)),
        }
    }

    /// One step of a body: some of its bytes, or its end. Panics on silence beyond the patience.
    #[track_caller]
    pub(crate) fn read_piece(&mut self, state: &mut BodyState, out: &mut [u8]) -> Piece {
        match self.try_read_piece(state, out) {
            Ok(piece) => piece,
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Piece::End(Ending::Truncated),
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Piece::End(Ending::Reset)
            }
            Err(e) => panic!("reading a body: {e}"),
        }
    }

    fn try_read_piece(&mut self, state: &mut BodyState, out: &mut [u8]) -> io::Result<Piece> {
        loop {
            match state {
                BodyState::Length(0) => return Ok(Piece::End(Ending::Complete)),
                BodyState::Length(left) => {
                    let n = self.take(out, *left)?;
                    *left -= n as u64;
                    return Ok(Piece::Bytes(n));
                }
                BodyState::Chunk(None) => {
                    let size = self.chunk_line()?;
                    if size == 0 {
                        self.read_trailer()?;
                        *state = BodyState::Length(0);
                    } else {
                        *state = BodyState::Chunk(Some(size));
                    }
                }
                BodyState::Chunk(Some(0)) => {
                    assert_eq!(self.text_line()?, "", "chunk longer than it says");
                    *state = BodyState::Chunk(None);
                }
                BodyState::Chunk(Some(left)) => {
                    let n = self.take(out, *left)?;
                    *left -= n as u64;
                    return Ok(Piece::Bytes(n));
                }
            }
        }
    }

    /// Some bytes, at most `most`, from what is pending or straight from the socket.
    fn take(&mut self, out: &mut [u8], most: u64) -> io::Result<usize> {
        let most = out.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        if !self.pending.is_empty() {
            let n = most.min(self.pending.len());
            out[..n].copy_from_slice(&self.pending[..n]);
            self.pending.drain(..n);
            return Ok(n);
        }
        let n = self.stream.read(&mut out[..most]).map_err(|e| self.explain(e))?;
        if n == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(n) }
    }

    fn text_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.pending, b"\n") {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                let line = String::from_utf8(line).expect("an ASCII line");
                return Ok(line.strip_suffix("\r\n").expect("a line that ends in CRLF").to_owned());
            }
            assert!(self.pending.len() < 1024, "endless line");
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The trailer section of a chunked body, with its empty line; only what was announced may be in it.
    fn read_trailer(&mut self) -> io::Result<()> {
        loop {
            let line = self.text_line()?;
            if line.is_empty() {
                return Ok(());
            }
            let (name, value) = Head::field_line(&line);
            let mut announced = self.announced.split(',').map(str::trim);
            assert!(
                announced.any(|n| n.eq_ignore_ascii_case(&name)),
                "a trailer nobody announced: {line:?}"
            );
            self.trailer.push((name, value));
        }
    }

    /// The trailer fields of the chunked body that was read last.
    pub(crate) fn take_trailer(&mut self) -> Vec<(String, String)> {
        mem::take(&mut self.trailer)
    }

    fn chunk_line(&mut self) -> io::Result<u64> {
        let line = self.text_line()?;
        assert!(
            !line.is_empty() && line.bytes().all(|b| b.is_ascii_hexdigit()),
            "chunk line {line:?}"
        );
        Ok(u64::from_str_radix(&line, 16).expect("a chunk size"))
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
