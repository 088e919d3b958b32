//! The control socket: how an operator's command reaches the running master, and what both say.
//!
//! A connection carries one request: a line of one word, or `end SESSION` with a session's hash. The master answers by
//! lines whose first word says what they are:
//!
//! | line | when |
//! |---|---|
//! | `heard` | at once: it is being seen to |
//! | `note TEXT` | any number of them, while it takes its time: for people |
//! | `ok TEXT` or `failed TEXT` | what came of it; the text goes on to the end of the connection |
//!
//! An asker that requests the end hears `note stopping`, and `ok stopped` once all workers have stopped. The
//! connection ends with the master's process, so its end means that nothing is left.
//!
//! An asker that is turned away hears `failed`, without `heard` before. `master` holds the [`Server`], `cli` calls
//! [`ask`]. Invariant: an asker waits without a limit only for a master that has heard it.

mod server;

pub use server::{Server, ServerState};

use crate::session::SessionHash;
use crate::sys::operator::{self, ListenAddress};
use socket2::Socket;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

/// The longest line that is a request.
const LINE_BYTES_MAX: usize = 32;
/// The longest answer. A hundred mistakes of a configuration take less.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// The most that an asker reads: an answer, and the notes before it.
const SAID_BYTES_MAX: u64 = 2 * REPLY_BYTES_MAX as u64;
/// How long a master may take to hear a request: as long as two rows of silent askers before us take, and some more.
const PATIENCE: Duration = Duration::from_secs(15);

const HEARD: &str = "heard";
const NOTE: &str = "note";
const OK: &str = "ok";
const FAILED: &str = "failed";

/// Requests to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ControlRequest {
    /// Read the configuration again: new workers take over, the old ones drain
    Reload,
    /// Reopen the access log, after it was renamed
    Reopen,
    /// Become the program that is installed now: its workers take over, the old ones drain
    Upgrade,
    /// Stop at once
    Stop,
    /// Stop when the running transfers are done, or after timeouts.stop_timeout
    Quit,
}

impl ControlRequest {
    /// As it is typed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Reopen => "reopen",
            Self::Upgrade => "upgrade",
            Self::Stop => "stop",
            Self::Quit => "quit",
        }
    }

    /// Whether the answer may take long.
    fn takes_long(self) -> bool {
        match self {
            Self::Reload | Self::Upgrade => true,
            Self::Reopen | Self::Stop | Self::Quit => false,
        }
    }
}

/// A line of an asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A request about the program.
    Program(ControlRequest),
    /// End this session.
    End(SessionHash),
}

/// The first word of a line that ends a session.
const END: &str = "end ";

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        if let Some(hash) = line.strip_prefix(END.as_bytes()) {
            return SessionHash::parse(hash).map(Self::End);
        }
        let all = <ControlRequest as clap::ValueEnum>::value_variants();
        let found = all.iter().find(|request| request.as_str().as_bytes() == line);
        found.copied().map(Self::Program)
    }

    fn takes_long(self) -> bool {
        matches!(self, Self::Program(request) if request.takes_long())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(request) => f.write_str(request.as_str()),
            Self::End(hash) => write!(f, "{END}{hash}"),
        }
    }
}

/// The result of a request, as its asker hears it.
pub type Reply = Result<String, String>;

fn write_reply(answer: &Reply) -> String {
    let (word, text) = match answer {
        Ok(text) => (OK, text),
        Err(text) => (FAILED, text),
    };
    format!("{word} {text}\n")
}

/// Asks the master that listens at `path`, and waits for its answer. Once the master has heard the request, that may
/// take any time. Notes that come before the answer go to `note`.
pub fn ask(path: &Path, line: Line, note: impl FnMut(&str)) -> io::Result<Reply> {
    ask_within(PATIENCE, path, line, note).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })
}

fn ask_within(
    patience: Duration,
    path: &Path,
    line: Line,
    note: impl FnMut(&str),
) -> io::Result<Reply> {
    let mut socket = operator::connect(&ListenAddress::Unix(path.to_owned()), patience)?;
    let asked = socket.write_all(format!("{line}\n").as_bytes());
    // Listens even if sending failed: the answer may have come before the request was read whole.
    listen(&socket, note).or_else(|error| asked.and(Err(error)))
}

/// Reads everything that the master says.
fn listen(socket: &Socket, mut note: impl FnMut(&str)) -> io::Result<Reply> {
    let mut said = BufReader::new(socket.take(SAID_BYTES_MAX));
    loop {
        let mut line = Vec::new();
        said.read_until(b'\n', &mut line)?;
        // The master has the request; its answer may take any time.
        socket.set_read_timeout(None)?;
        let line = String::from_utf8_lossy(&line);
        let whole = line.strip_suffix('\n').unwrap_or_default();
        match whole.split_once(' ').unwrap_or((whole, "")) {
            (HEARD, "") => {}
            (NOTE, text) => note(text),
            (OK, text) => return rest(&mut said, text).map(Ok),
            (FAILED, text) => return rest(&mut said, text).map(Err),
            // The connection ended before the answer, or the other end is no master.
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The whole text that begins with `line`.
fn rest(said: &mut impl Read, line: &str) -> io::Result<String> {
    let mut text = Vec::new();
    match said.read_to_end(&mut text) {
        // The kernel may report a reset behind the answer, if the master left bytes unread.
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => return Err(error),
        _ => {}
    }
    let text = format!("{line}\n{}", String::from_utf8_lossy(&text));
    Ok(text.trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread;

    /// The answer and the notes that an asker hears from a master that sends this.
    fn asked(said: &str) -> (io::Result<Reply>, Vec<String>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = Socket::from(OwnedFd::from(ours));
        theirs.write_all(said.as_bytes()).unwrap();
        drop(theirs);
        let mut notes = Vec::new();
        let answer = listen(&ours, |note| notes.push(note.to_owned()));
        (answer, notes)
    }

    #[test]
    fn what_is_written_is_read() {
        for answer in [Ok("done".to_owned()), Err("line 1\n  line 2".to_owned())] {
            let written = write_reply(&answer);
            for before in ["", "heard\n"] {
                assert_eq!(asked(&format!("{before}{written}")).0.unwrap(), answer);
            }
            let (answered, notes) = asked(&format!("heard\nnote one\nnote two 2\n{written}"));
            assert_eq!((answered.unwrap(), notes), (answer, vec!["one".into(), "two 2".into()]));
        }
        let all = <ControlRequest as clap::ValueEnum>::value_variants();
        let end = Line::End(SessionHash::new(&[1; 32], &[2; 32]));
        for line in all.iter().copied().map(Line::Program).chain([end]) {
            assert!(line.to_string().len() < LINE_BYTES_MAX);
            assert_eq!(Line::parse(line.to_string().as_bytes()), Some(line));
        }
        for wrong in ["reload ", "end", "end ", "end 0123456789aB", "end 0123456789ab "] {
            assert_eq!(Line::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_cut_is_no_answer() {
        for cut in ["", "heard", "heard\n", "heard\nnote", "ok", "ok done", "maybe so\n", "\n"] {
            let error = asked(cut).0.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut:?}");
        }
    }

    #[test]
    fn a_master_that_does_not_hear_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let patience = Duration::from_millis(50);
        let deaf = ask_within(patience, &path, Line::Program(ControlRequest::Stop), |_| ());
        assert_eq!(deaf.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // A master that has heard the request may take longer.
        let (_, slow) = (listener.accept(), thread::spawn(move || answer_late(&listener)));
        let answer = ask_within(patience, &path, Line::Program(ControlRequest::Stop), |_| ());
        assert_eq!(answer.unwrap(), Ok("done".to_owned()));
        slow.join().unwrap();
    }

    fn answer_late(listener: &UnixListener) {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"heard\n").unwrap();
        thread::sleep(Duration::from_millis(200));
        stream.write_all(b"ok done\n").unwrap();
    }
}
