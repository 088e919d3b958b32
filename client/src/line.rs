//! The line between two clients that are paired: the handshake, and then sealed letters both ways.
//!
//! Both sides send their message of the handshake and then their proof, without waiting for each other. Invariant: no
//! letter passes before the peer's proof is checked.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::error::ClientError;
use crate::letters::{self, LetterError, OVERHEAD_BYTES, Reader, TEXT_BYTES_MAX, Writer, letters};
use crate::pake::{Handshake, MESSAGE_BYTES, PROOF_BYTES, Side};

/// The longest time that a peer may take for its part of the handshake, and to say whether it takes the file.
const PATIENCE: Duration = Duration::from_secs(60);

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
    mut stream: TcpStream,
    side: Side,
    password: &str,
) -> Result<(Telling, Hearing), ClientError> {
    stream.set_read_timeout(Some(PATIENCE)).map_err(ClientError::line)?;
    let (handshake, ours) = Handshake::start(side, password);
    stream.write_all(&ours).map_err(ClientError::line)?;
    let mut theirs = [0; MESSAGE_BYTES];
    stream.read_exact(&mut theirs).map_err(ClientError::line)?;
    let agreed = handshake.finish(&theirs).map_err(|it| ClientError::Forged(it.to_string()))?;
    stream.write_all(&agreed.proof()).map_err(ClientError::line)?;
    let mut proof = [0; PROOF_BYTES];
    stream.read_exact(&mut proof).map_err(ClientError::line)?;
    let (writer, reader) = letters(&agreed.check(&proof)?);
    let line = BufReader::with_capacity(READ_BYTES, stream.try_clone().map_err(ClientError::line)?);
    Ok((Telling { stream, writer }, Hearing { line, reader }))
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
    /// Waits for a letter, and opens it.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let mut letter = vec![0; letters::LENGTH_BYTES];
        self.line.read_exact(&mut letter).map_err(ClientError::line)?;
        let whole = match Reader::letter_bytes(&letter) {
            Ok(Some(whole)) => whole.min(OVERHEAD_BYTES + TEXT_BYTES_MAX),
            Ok(None) => return Err(ClientError::System),
            Err(error) => return Err(forged(error)),
        };
        letter.resize(whole, 0);
        let rest = letter.get_mut(letters::LENGTH_BYTES..).unwrap_or_default();
        self.line.read_exact(rest).map_err(ClientError::line)?;
        let opened = self.reader.read(&letter).map_err(forged)?;
        let text = Zeroizing::new(opened.map(|(text, _)| text).unwrap_or_default());
        serde_json::from_slice(&text)
            .map_err(|_| ClientError::Forged("the other side is of another version".to_owned()))
    }

    /// The peer may take as long as it likes from now on. The kernel still finds out if the relay's machine is gone.
    pub(crate) fn be_patient(&self) -> Result<(), ClientError> {
        self.line.get_ref().set_read_timeout(None).map_err(ClientError::line)
    }

    /// Drops what comes until the peer has finished, for `at_most` this time: a socket that closes with unread bytes
    /// would take our last letter back.
    pub(crate) fn drain(mut self, at_most: Duration) {
        let mut room = vec![0; 64 << 10];
        let ends = std::time::Instant::now() + at_most;
        while let Some(left) = ends.checked_duration_since(std::time::Instant::now()) {
            let left = left.max(Duration::from_millis(1));
            let is_timed = self.line.get_ref().set_read_timeout(Some(left)).is_ok();
            if !is_timed || !matches!(self.line.read(&mut room), Ok(1..)) {
                return;
            }
        }
    }
}

fn forged(error: LetterError) -> ClientError {
    ClientError::Forged(error.to_string())
}
