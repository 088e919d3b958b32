//! Receives a file: meets the sender, looks at the offer, opens and writes what comes, and confirms it.
//!
//! One thread opens and writes, and the caller's reads. Invariant: a file stands under its name only once it is whole and
//! checked, a file that is there stays as it is unless told otherwise, and nothing is written outside the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use wire::http::{FILE_NAME_BYTES_MAX, FileName};

use crate::Code;
use crate::blocks::{Opening, read_block};
use crate::error::{ClientError, shown};
use crate::line::{Hearing, shake};
use crate::offer::{Answer, Offer, Sent, Verdict};
use crate::pake::Side;
use crate::rendezvous::{RelayAddress, join};

/// Blocks that are read before they are written: 2 MiB.
const BLOCKS_AHEAD: usize = 32;
/// The longest wait for the sender to take our last letter.
const FAREWELL: Duration = Duration::from_secs(10);
/// The end of a file's name until it is whole.
const PART: &str = ".part";

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

/// A file that is being written.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    to: PathBuf,
    overwrites: bool,
    /// It has its name.
    is_whole: bool,
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
    let offer: Offer = hearing.hear()?;
    let begun = Opening::new(&offer.identity, offer.bytes)
        .and_then(|opening| Ok((opening, Sink::open(place, &offer)?)));
    let (opening, sink) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            telling.tell(&Answer::Refused(reason(&error)))?;
            telling.finish();
            hearing.drain(FAREWELL);
            return Err(error);
        }
    };
    telling.tell(&Answer::Accepted)?;
    hearing.be_patient()?;
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
    let read = read_blocks(hearing, |block| to.send(block).is_ok());
    drop(to);
    let written = writing.join().map_err(|_| ClientError::System)?;
    // If both have failed, it began with the one that writes.
    let (sink, has) = match (written, read) {
        (Ok(written), Ok(())) => written,
        (Err(error), _) if !matches!(error, ClientError::Forged(_)) => return Err(error),
        (Ok(_), Err(error)) | (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
    };
    let sent: Sent = hearing.hear()?;
    if sent != has {
        return Err(ClientError::Forged("its BLAKE3 is another".to_owned()));
    }
    Ok(Received { path: sink.finish()?, bytes: has.bytes })
}

/// Reads until the end. `sink` returns whether it wants more.
fn read_blocks(
    hearing: &mut Hearing,
    mut sink: impl FnMut(Vec<u8>) -> bool,
) -> Result<(), ClientError> {
    while let Some(block) = read_block(&mut hearing.line)? {
        if !sink(block) {
            return Ok(());
        }
    }
    Ok(())
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
                Self::Part(part) => part.file.write_all(text).map_err(|it| part.error(it))?,
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

impl Part {
    /// Creates it, unless another receiver does. `name` is the name of a file in `folder`.
    fn create(folder: &Path, name: &str, overwrites: bool) -> Result<Self, ClientError> {
        let to = folder.join(name);
        // A link without a target is in the way as well.
        if !overwrites && fs::symlink_metadata(&to).is_ok() {
            return Err(exists(to));
        }
        let mut end = name.len().min(FILE_NAME_BYTES_MAX - PART.len());
        while !name.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let path = folder.join(format!("{}{PART}", name.get(..end).unwrap_or_default()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => Ok(Self { path, file, to, overwrites, is_whole: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(ClientError::Unfit {
                path,
                what: "another receiver writes this file, or was killed: then remove it",
            }),
            Err(source) => Err(ClientError::File { path, source }),
        }
    }

    fn error(&self, source: io::Error) -> ClientError {
        ClientError::File { path: self.path.clone(), source }
    }

    /// Gives it its name, once it is on the disk.
    fn finish(mut self) -> Result<PathBuf, ClientError> {
        self.file.sync_all().map_err(|it| self.error(it))?;
        let flags =
            if self.overwrites { RenameFlags::empty() } else { RenameFlags::RENAME_NOREPLACE };
        match renameat2(AT_FDCWD, &self.path, AT_FDCWD, &self.to, flags) {
            // The file system does not know how.
            Err(Errno::EINVAL) if fs::symlink_metadata(&self.to).is_err() => {
                fs::rename(&self.path, &self.to).map_err(|it| self.error(it))?;
            }
            Err(Errno::EEXIST | Errno::EINVAL) => return Err(exists(self.to.clone())),
            Err(errno) => return Err(self.error(errno.into())),
            Ok(()) => {}
        }
        self.is_whole = true;
        Ok(self.to.clone())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_whole {
            // What cannot be removed stays, under a name that says what it is.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn exists(path: PathBuf) -> ClientError {
    ClientError::Unfit { path, what: "there is a file of this name already" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_came_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let part = Part::create(folder.path(), "name", false).unwrap();
        fs::write(folder.path().join("name"), "theirs").unwrap();
        assert!(matches!(part.finish(), Err(ClientError::Unfit { .. })));
        assert_eq!(fs::read_to_string(folder.path().join("name")).unwrap(), "theirs");
        let part = Part::create(folder.path(), "name", true).unwrap();
        assert_eq!(part.finish().unwrap(), folder.path().join("name"));
        assert_eq!(fs::read_to_string(folder.path().join("name")).unwrap(), "");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no part is left");
    }

    #[test]
    fn one_receiver_writes_a_file_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let name = "é".repeat(127) + "x";
        let part = Part::create(folder.path(), &name, false).unwrap();
        assert!(matches!(
            Part::create(folder.path(), &name, false),
            Err(ClientError::Unfit { .. })
        ));
        drop(part);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        assert!(matches!(
            Part::create(folder.path(), "link", false),
            Err(ClientError::Unfit { .. })
        ));
    }
}
