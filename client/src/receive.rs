//! Receives a file: meets the sender, looks at the offer, opens and writes what comes, and confirms it.
//!
//! One thread opens and writes, and the caller's reads; `part` is the file until it is whole. Invariant: a file stands under
//! its name only once it is whole and checked, a file that is there stays as it is unless told otherwise, and nothing is
//! written outside the folder.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use wire::http::FileName;

use crate::Code;
use crate::blocks::{Opening, read_block};
use crate::error::{ClientError, shown};
use crate::line::{Hearing, PATIENCE, shake};
use crate::offer::{Answer, Offer, Sent, Verdict};
use crate::pake::Side;
use crate::part::Part;
use crate::rendezvous::{RelayAddress, join};

/// Blocks that are read before they are written: 2 MiB.
const BLOCKS_AHEAD: usize = 32;
/// The longest wait for the sender to take our last letter.
const FAREWELL: Duration = Duration::from_secs(10);
/// The interval at which a receiver that gets nothing looks whether it can still write.
const LOOK: Duration = Duration::from_secs(1);

/// Where the file goes.
#[derive(Debug)]
pub enum Place {
    /// Into this folder, under the name that the sender gives it.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Whether it may replace a file of this name.
        overwrites: bool,
    },
    /// To standard output. Bytes go there as soon as they are checked, so the end may be missing if this fails.
    Stdout,
}

/// What was received.
#[derive(Debug)]
pub struct Received {
    /// The file. `None`: it went to standard output.
    pub path: Option<PathBuf>,
    /// Its length.
    pub bytes: u64,
}

/// Where the bytes go.
#[derive(Debug)]
enum Sink {
    Part(Part),
    Stdout,
}

/// Receives what the sender of `code` has.
pub fn receive(relay: &RelayAddress, code: &Code, place: &Place) -> Result<Received, ClientError> {
    if let Place::Folder { path, .. } = place {
        let found = fs::metadata(path);
        let found = found.map_err(|source| ClientError::File { path: path.clone(), source })?;
        if !found.is_dir() {
            return Err(ClientError::Unfit { path: path.clone(), what: "this is no folder" });
        }
    }
    let stream = join(relay, code.rendezvous())?;
    let (mut telling, mut hearing) = shake(stream, Side::Receiver, &code.password())?;
    let offer: Offer = hearing.hear(Some(PATIENCE))?;
    let begun = Opening::new(&offer.identity, offer.bytes)
        .and_then(|opening| Ok((opening, Sink::open(place, &offer)?)));
    let (opening, sink) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            if telling.tell(&Answer::Refused(reason(&error))).is_ok() {
                telling.finish();
                hearing.drain(FAREWELL);
            }
            return Err(error);
        }
    };
    telling.tell(&Answer::Accepted)?;
    let taken = take(&mut hearing, opening, sink);
    let verdict = match &taken {
        Ok(_) => Verdict::Confirmed,
        Err(error) => Verdict::Failed(reason(error)),
    };
    // The file is here, or is not, whether or not the sender hears of it.
    if telling.tell(&verdict).is_ok() {
        telling.finish();
        hearing.drain(FAREWELL);
    }
    taken
}

/// Reads the blocks while another thread opens and writes them, and gives the file its name if all is as it was sent.
fn take(hearing: &mut Hearing, opening: Opening, sink: Sink) -> Result<Received, ClientError> {
    let (to, blocks) = sync_channel(BLOCKS_AHEAD);
    let writing = thread::spawn(move || sink.write(opening, &blocks));
    let read = read_blocks(hearing, |block| to.send(block).is_ok(), || writing.is_finished());
    drop(to);
    let written = writing.join().map_err(|_| ClientError::System)?;
    let (sink, has) = match (written, read) {
        (Ok(written), Ok(())) => written,
        // The file is not whole, as the line ended.
        (Err(ClientError::Forged(_)), Err(error @ (ClientError::Left | ClientError::Line(_)))) => {
            return Err(error);
        }
        (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
    };
    let sent: Sent = hearing.hear(Some(PATIENCE))?;
    if sent != has {
        return Err(ClientError::Forged("its BLAKE3 is another".to_owned()));
    }
    Ok(Received { path: sink.finish()?, bytes: has.bytes })
}

/// Reads until the end. `sink` returns whether it wants more. A sender may be silent for long, so now and then this looks
/// whether the one that writes `is_over`.
fn read_blocks(
    hearing: &mut Hearing,
    mut sink: impl FnMut(Vec<u8>) -> bool,
    is_over: impl Fn() -> bool,
) -> Result<(), ClientError> {
    hearing.line.get_ref().set_read_timeout(Some(LOOK)).map_err(ClientError::line)?;
    let mut line = Looking { line: &mut hearing.line, is_over };
    while let Some(block) = read_block(&mut line)? {
        if !sink(block) {
            return Ok(());
        }
    }
    Ok(())
}

/// A line that is read until it `is_over`, however long nothing comes.
struct Looking<'l, F> {
    line: &'l mut BufReader<TcpStream>,
    is_over: F,
}

impl<F: Fn() -> bool> Read for Looking<'_, F> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.line.read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !(self.is_over)() => {}
                read => return read,
            }
        }
    }
}

/// The reason of an error for the other side, who need not know our paths.
fn reason(error: &ClientError) -> String {
    match error {
        ClientError::File { source, .. } => source.to_string(),
        ClientError::Unfit { what, .. } => (*what).to_owned(),
        error => error.to_string(),
    }
}

impl Sink {
    fn open(place: &Place, offer: &Offer) -> Result<Self, ClientError> {
        let Place::Folder { path, overwrites } = place else { return Ok(Self::Stdout) };
        let name = FileName::from_bytes(offer.name.as_bytes())
            .ok_or_else(|| ClientError::Nameless(shown(&offer.name)))?;
        Part::create(path, name.as_str(), *overwrites).map(Self::Part)
    }

    /// Opens the blocks and writes what is in them. Returns what has come.
    fn write(
        mut self,
        mut opening: Opening,
        blocks: &Receiver<Vec<u8>>,
    ) -> Result<(Self, Sent), ClientError> {
        for block in blocks {
            let text = opening.open(&block)?;
            match &mut self {
                Self::Part(part) => part.write(text)?,
                Self::Stdout => io::stdout().write_all(text).map_err(of_stdout)?,
            }
        }
        Ok((self, opening.finish()?))
    }

    /// Everything has come.
    fn finish(self) -> Result<Option<PathBuf>, ClientError> {
        match self {
            Self::Part(part) => part.finish().map(Some),
            Self::Stdout => io::stdout().flush().map_err(of_stdout).map(|()| None),
        }
    }
}

fn of_stdout(source: io::Error) -> ClientError {
    ClientError::File { path: PathBuf::from("standard output"), source }
}
