//! Responses as a [`Raw`] connection reads them: head, body in pieces, trailer.

use std::io::{self, ErrorKind, Read};
use std::mem;

use super::super::response::{BodyFraming, Ending, Head, Response};
use super::{BodyState, HEAD_BYTES_MAX, Piece, Raw, find};

impl Raw {
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

    /// Reads one step of a body: some of its bytes, or its end. Panics on silence beyond the patience.
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

    /// Takes some bytes, `most` at most, from the pending ones or straight from the socket.
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

    /// Reads the trailer section of a chunked body, with its empty line; only announced fields may be in it.
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
}
