//! The control socket: how an operator's command reaches the running master, and what both say.
//!
//! A connection carries one request, a line of one word. The master answers by lines whose first word says
//! what they are:
//!
//! | line | when |
//! |---|---|
//! | `heard` | at once: it is being seen to |
//! | `note TEXT` | any number of them, while it takes its time: for people |
//! | `ok TEXT` or `failed TEXT` | what came of it; the text goes on to the end of the connection |
//!
//! Who asks for the end is told `note stopping`, and `ok stopped` once all has stopped; that connection ends with the
//! master's process, so whoever has heard its end knows that nothing is left.
//!
//! Who is turned away is told `failed` without having been `heard`. `master` holds the [`Server`], `cli` calls
//! [`ask`]. What must always hold: an asker waits without end only for a master that has heard it.

mod server;

pub use server::{Past, Server};

use crate::sys::private::{self, Address};
use socket2::Socket;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

/// The longest line that is a request.
const LINE_BYTES_MAX: usize = 32;
/// The longest answer; a configuration with a hundred mistakes is described in less.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// All that is listened to: an answer, and what comes before it.
const SAID_BYTES_MAX: u64 = 2 * ANSWER_BYTES_MAX as u64;
/// How long a master may take to hear a request: as long as two rows of others before us say nothing, and
/// some more.
const PATIENCE: Duration = Duration::from_secs(15);

const HEARD: &str = "heard";
const NOTE: &str = "note";
const OK: &str = "ok";
const FAILED: &str = "failed";

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Request {
    /// Read the configuration again: new workers take over, the old ones drain
    Reload,
    /// Open the access log anew, as after it was renamed
    Reopen,
    /// Become the program that is installed now: its workers take over, the old ones drain
    Upgrade,
    /// Stop at once
    Stop,
    /// Stop once running transfers are done, or timeouts.stop_timeout is over
    Quit,
}

impl Request {
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

    fn parse(line: &[u8]) -> Option<Self> {
        let all = [Self::Reload, Self::Reopen, Self::Upgrade, Self::Stop, Self::Quit];
        all.into_iter().find(|request| request.as_str().as_bytes() == line)
    }

    /// Whether its answer may be a long time coming.
    fn takes_long(self) -> bool {
        match self {
            Self::Reload | Self::Upgrade => true,
            Self::Reopen | Self::Stop | Self::Quit => false,
        }
    }
}

/// What came of a request: what to tell its asker.
pub type Answer = Result<String, String>;

fn write_answer(answer: &Answer) -> String {
    let (word, text) = match answer {
        Ok(text) => (OK, text),
        Err(text) => (FAILED, text),
    };
    format!("{word} {text}\n")
}

/// Asks the master that listens at `path`, and waits for its answer: once it has heard the request, however long that
/// takes. What it says meanwhile goes to `note`.
pub fn ask(path: &Path, request: Request, note: impl FnMut(&str)) -> io::Result<Answer> {
    ask_within(PATIENCE, path, request, note).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })
}

fn ask_within(
    patience: Duration,
    path: &Path,
    request: Request,
    note: impl FnMut(&str),
) -> io::Result<Answer> {
    let mut socket = private::connect(&Address::Unix(path.to_owned()), patience)?;
    let asked = socket.write_all(format!("{}\n", request.as_str()).as_bytes());
    // Whatever went wrong when we asked: it may have been answered before all that we said was heard.
    listen(&socket, note).or_else(|error| asked.and(Err(error)))
}

/// Hears all that the master has to say.
fn listen(socket: &Socket, mut note: impl FnMut(&str)) -> io::Result<Answer> {
    let mut said = BufReader::new(socket.take(SAID_BYTES_MAX));
    loop {
        let mut line = Vec::new();
        said.read_until(b'\n', &mut line)?;
        // It has our request; from now on it may take its time.
        socket.set_read_timeout(None)?;
        let line = String::from_utf8_lossy(&line);
        let whole = line.strip_suffix('\n').unwrap_or_default();
        match whole.split_once(' ').unwrap_or((whole, "")) {
            (HEARD, "") => {}
            (NOTE, text) => note(text),
            (OK, text) => return rest(&mut said, text).map(Ok),
            (FAILED, text) => return rest(&mut said, text).map(Err),
            // It ended before it answered, or is no master.
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The whole text that begins with `line`.
fn rest(said: &mut impl Read, line: &str) -> io::Result<String> {
    let mut text = Vec::new();
    match said.read_to_end(&mut text) {
        // With more in its queue than it read, the kernel may tell of a reset behind the answer.
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

    /// What an asker makes of a master that says all this, and what it was told meanwhile.
    fn asked(said: &str) -> (io::Result<Answer>, Vec<String>) {
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
            let written = write_answer(&answer);
            for before in ["", "heard\n"] {
                assert_eq!(asked(&format!("{before}{written}")).0.unwrap(), answer);
            }
            let (answered, notes) = asked(&format!("heard\nnote one\nnote two 2\n{written}"));
            assert_eq!((answered.unwrap(), notes), (answer, vec!["one".into(), "two 2".into()]));
        }
        for request in [Request::Reload, Request::Reopen, Request::Stop, Request::Quit] {
            assert_eq!(Request::parse(request.as_str().as_bytes()), Some(request));
        }
        assert_eq!(Request::parse(b"reload "), None);
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
        let deaf = ask_within(patience, &path, Request::Stop, |_| ());
        assert_eq!(deaf.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // One that has heard may take longer.
        let (_, slow) = (listener.accept(), thread::spawn(move || answer_late(&listener)));
        let answer = ask_within(patience, &path, Request::Stop, |_| ());
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
