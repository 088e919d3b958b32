//! Small files that are read whole: certificates, keys, configurations. Called by the master and the command line.
//!
//! Invariant: reading takes a bounded amount of memory, whatever stands at the path, and reading a [`regular`] file
//! never waits.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Why there is no content. The error never holds a byte of the file.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("cannot read it: {0}")]
    Os(#[from] io::Error),
    /// The path is not a file.
    #[error("it is {0}, not a file")]
    Kind(&'static str),
    /// The file is larger than any such file should be.
    #[error("it has more than {bytes_max} bytes")]
    TooLarge {
        /// The most that is read.
        bytes_max: usize,
    },
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Os(error) => error,
            error => Self::new(io::ErrorKind::InvalidInput, error.to_string()),
        }
    }
}

/// The content of a regular file, wiped when it is dropped. Anything else is refused, since it could wait or never
/// end.
pub fn regular(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // Opening a device can have effects, so look first.
    expect_regular(fs::metadata(path)?.file_type())?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // Another file may have taken the path since.
    expect_regular(file.metadata()?.file_type())?;
    whole(&file, bytes_max)
}

/// The content of whatever stands at `path`: a pipe is read until its writer closes it.
pub fn any(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    whole(&File::open(path)?, bytes_max)
}

fn whole(file: &File, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // Reserves all the room at once: a vector that grows leaves copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(bytes_max.saturating_add(1)));
    file.take(bytes_max as u64 + 1).read_to_end(&mut content)?;
    if content.len() > bytes_max {
        return Err(ReadError::TooLarge { bytes_max });
    }
    Ok(content)
}

fn expect_regular(kind: FileType) -> Result<(), ReadError> {
    let what = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(ReadError::Kind(what))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::sys::stat::Mode;
    use std::os::unix::net::UnixListener;

    fn refused(path: &Path) -> String {
        regular(path, 10).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for (bytes, fits) in [(0, true), (10, true), (11, false), (1 << 20, false)] {
            fs::write(&path, vec![b'x'; bytes]).unwrap();
            for read in [regular(&path, 10), any(&path, 10)] {
                assert_eq!(read.is_ok_and(|content| content.len() == bytes), fits, "{bytes}");
            }
        }
        assert_eq!(refused(&path), "it has more than 10 bytes");
    }

    #[test]
    fn what_could_hang_or_never_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let [fifo, socket, gone] = ["fifo", "socket", "gone"].map(|it| directory.path().join(it));
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(refused(&fifo), "it is a pipe, not a file");
        assert_eq!(refused(&socket), "it is a socket, not a file");
        assert_eq!(refused(Path::new("/dev/zero")), "it is a device, not a file");
        assert_eq!(refused(directory.path()), "it is a directory, not a file");
        assert!(refused(&gone).contains("No such file"));
        assert!(matches!(any(Path::new("/dev/zero"), 10), Err(ReadError::TooLarge { .. })));
    }
}
