//! The line between two clients that are paired: the handshake, and then sealed letters both ways.
//!
//! Both sides send their message of the handshake. Then the receiver sends its proof, and the sender its own behind that: a
//! stranger can test a guess only by showing a proof of it, so a wrong guess is seen. Invariant: no letter passes before
//! the peer's proof is checked.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::error::ClientError;
use crate::letters::{self, LetterError, OVERHEAD_BYTES, Reader, TEXT_BYTES_MAX, Writer, letters};
use crate::pake::{Handshake, MESSAGE_BYTES, PROOF_BYTES, Side};

/// The longest time that a peer may take for the handshake, for its first letter, and for the last letter of a sender.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that are read from the line at a time.
const READ_BYTES: usize = 512 << 10;

/// The end of the line that we write.
#[derive(Debug)]
pub(crate) struct Telling {
    pub(crate) stream: TcpStream,
    writer: Writer,
}

/// The end of the line that we read.
#[derive(Debug)]
pub(crate) struct Hearing {
    pub(crate) line: BufReader<TcpStream>,
    reader: Reader,
}

/// Shakes hands with the peer at the other end of `stream`.
pub(crate) fn shake(
    stream: TcpStream,
    side: Side,
    password: &str,
) -> Result<(Telling, Hearing), ClientError> {
    let ends = Instant::now() + PATIENCE;
    let mut line = BufReader::with_capacity(READ_BYTES, stream);
    let (handshake, ours) = Handshake::start(side, password);
    line.get_mut().write_all(&ours).map_err(ClientError::line)?;
    let mut theirs = [0; MESSAGE_BYTES];
    read_in_time(&mut line, &mut theirs, Some(ends)).map_err(ClientError::line)?;
    let agreed = handshake.finish(&theirs).map_err(|_| ClientError::Version)?;
    let ours = agreed.proof();
    if side == Side::Receiver {
        line.get_mut().write_all(&ours).map_err(ClientError::line)?;
    }
    let mut theirs = [0; PROOF_BYTES];
    let read = read_in_time(&mut line, &mut theirs, Some(ends)).map_err(ClientError::line);
    match (read, side) {
        // Our proof was no proof to it, or it has what it wanted to know of its guess.
        (Err(ClientError::Left), Side::Receiver) => return Err(ClientError::WrongCode(side)),
        (read, _) => read?,
    }
    if side == Side::Sender {
        // Also behind a wrong proof: its guess is made, and an honest receiver learns that it was wrong.
        line.get_mut().write_all(&ours).map_err(ClientError::line)?;
    }
    let keys = agreed.check(&theirs).map_err(|_| ClientError::WrongCode(side))?;
    let (writer, reader) = letters(&keys);
    let stream = line.get_ref().try_clone().map_err(ClientError::line)?;
    Ok((Telling { stream, writer }, Hearing { line, reader }))
}

/// Fills `room`, by the time that `ends` says if it says one.
fn read_in_time(
    line: &mut BufReader<TcpStream>,
    mut room: &mut [u8],
    ends: Option<Instant>,
) -> io::Result<()> {
    while !room.is_empty() {
        let left = ends.map(|it| it.saturating_duration_since(Instant::now()));
        if left.is_some_and(|it| it.is_zero()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        line.get_ref().set_read_timeout(left)?;
        match line.read(room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => room = room.get_mut(bytes..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Telling {
    /// Seals a letter and sends it.
    pub(crate) fn tell(&mut self, what: &impl Serialize) -> Result<(), ClientError> {
        let text = Zeroizing::new(serde_json::to_vec(what).map_err(|_| ClientError::System)?);
        let mut letter = Vec::new();
        self.writer.write(&text, &mut letter).map_err(|_| ClientError::System)?;
        self.stream.write_all(&letter).map_err(ClientError::line)
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&self) {
        // The peer sees at the latest when this program ends.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

impl Hearing {
    /// Waits for a letter for `at_most` this time, or without an end, and opens it.
    pub(crate) fn hear<T: DeserializeOwned>(
        &mut self,
        at_most: Option<Duration>,
    ) -> Result<T, ClientError> {
        let ends = at_most.map(|it| Instant::now() + it);
        let mut letter = vec![0; letters::LENGTH_BYTES];
        read_in_time(&mut self.line, &mut letter, ends).map_err(ClientError::line)?;
        let whole = match Reader::letter_bytes(&letter) {
            Ok(Some(whole)) => whole.min(OVERHEAD_BYTES + TEXT_BYTES_MAX),
            Ok(None) => return Err(ClientError::System),
            Err(error) => return Err(forged(error)),
        };
        letter.resize(whole, 0);
        let rest = letter.get_mut(letters::LENGTH_BYTES..).unwrap_or_default();
        read_in_time(&mut self.line, rest, ends).map_err(ClientError::line)?;
        let opened = self.reader.read(&letter).map_err(forged)?;
        let text = Zeroizing::new(opened.map(|(text, _)| text).unwrap_or_default());
        serde_json::from_slice(&text).map_err(|_| ClientError::Version)
    }

    /// Drops what comes until the peer has finished, for `at_most` this time: a socket that closes with unread bytes
    /// would take our last letter back.
    pub(crate) fn drain(mut self, at_most: Duration) {
        let mut room = vec![0; 64 << 10];
        let ends = Some(Instant::now() + at_most);
        // It always ends with an error: the sender's end, or the time.
        while read_in_time(&mut self.line, &mut room, ends).is_ok() {}
    }
}

fn forged(error: LetterError) -> ClientError {
    ClientError::Forged(error.to_string())
}
