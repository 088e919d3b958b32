//! The control socket: how an operator's command reaches the running master, and what both say.
//!
//! A connection carries one request, a line of one word, and one answer: its first word says whether it
//! was done, and what follows, to the end of the connection, is for people. `master` holds the
//! [`Server`], `cli` calls [`ask`].

mod server;

pub use server::{Past, Server};

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The longest line that is a request.
const LINE_BYTES_MAX: usize = 32;
/// The longest answer; a configuration with a hundred mistakes is described in less.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Request {
    /// Read the configuration again: new workers take over, the old ones drain
    Reload,
    /// Become the program that is installed now: its workers take over, the old ones drain
    Upgrade,
    /// Stop at once
    Stop,
    /// Stop once running transfers are done, or timeouts.stop_timeout is over
    Quit,
}

impl Request {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Upgrade => "upgrade",
            Self::Stop => "stop",
            Self::Quit => "quit",
        }
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let all = [Self::Reload, Self::Upgrade, Self::Stop, Self::Quit];
        all.into_iter().find(|request| request.as_str().as_bytes() == line)
    }
}

/// What came of a request: what to tell its asker.
pub type Answer = Result<String, String>;

fn write_answer(answer: &Answer) -> String {
    let (word, text) = match answer {
        Ok(text) => ("ok", text),
        Err(text) => ("failed", text),
    };
    format!("{word} {text}\n")
}

fn read_answer(text: &str) -> Option<Answer> {
    let text = text.strip_suffix('\n')?;
    match text.split_once(' ')? {
        ("ok", text) => Some(Ok(text.to_owned())),
        ("failed", text) => Some(Err(text.to_owned())),
        _ => None,
    }
}

/// Asks the master that listens at `path`, and waits for its answer, however long that takes.
pub fn ask(path: &Path, request: Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(path)?;
    let asked = stream.write_all(format!("{}\n", request.as_str()).as_bytes());
    let mut text = Vec::new();
    let heard = stream.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut text);
    if let Some(answer) = read_answer(&String::from_utf8_lossy(&text)) {
        // Whatever else went wrong: it may have been given before all that we say was heard.
        return Ok(answer);
    }
    // The master may end before it has answered.
    asked.and(heard).and_then(|_| Err(io::ErrorKind::UnexpectedEof.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for answer in [Ok("done".to_owned()), Err("line 1\n  line 2".to_owned())] {
            assert_eq!(read_answer(&write_answer(&answer)), Some(answer));
        }
        for cut in ["", "ok", "ok done", "maybe so\n"] {
            assert_eq!(read_answer(cut), None, "{cut:?}");
        }
        for request in [Request::Reload, Request::Stop, Request::Quit] {
            assert_eq!(Request::parse(request.as_str().as_bytes()), Some(request));
        }
        assert_eq!(Request::parse(b"reload "), None);
    }
}
