//! Why a client ends without success, in words for people.

use std::io;
use std::path::PathBuf;

use wire::http::is_invisible;

use crate::pake::Side;

/// The longest text of a stranger that is shown, in characters.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// Why a file was not sent, or not received.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no relay at this address, or no way to it.
    #[error("cannot reach a relay at {relay}")]
    Unreachable {
        /// The address.
        relay: String,
        /// What the system says.
        source: io::Error,
    },
    /// The relay refuses, and says why.
    #[error("the relay refuses: {0}")]
    Relay(String),
    /// What answers is no relay, or a relay that refuses before a word.
    #[error("the relay says what no relay says: it refuses more connections, or it is none")]
    NoRelay,
    /// The line to the relay broke.
    #[error("the line to the relay broke")]
    Line(#[source] io::Error),
    /// The other side left.
    #[error("the other side left before everything was through")]
    Left,
    /// The relay closed the connection before the other side came.
    #[error("the relay closed the connection before the other side came")]
    RelayLeft,
    /// Nobody came, though the relay still waits.
    #[error("the other side did not come in time")]
    NobodyCame,
    /// The other side, or the relay, was silent for too long.
    #[error("nothing came in time")]
    Late,
    /// The other side has another code. Ours is used up.
    #[error("wrong code: {}", advice(*.0))]
    WrongCode(Side),
    /// The other side does not speak as this client does.
    #[error("the other side is another program, or another version of this one")]
    Version,
    /// What came is not what the other side sent: the relay, or a program on the way, changed it.
    #[error("what came is not what the other side sent: {0}")]
    Forged(String),
    /// The other side does not want it, and says why.
    #[error("the other side refuses: {0}")]
    Refused(String),
    /// The other side could not finish, and says why.
    #[error("the other side failed: {0}")]
    Failed(String),
    /// A file or a folder of ours stands in the way.
    #[error("{}: {what}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file of ours could not be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file changed while it was sent.
    #[error("{} changed while it was sent", .0.display())]
    Changed(PathBuf),
    /// The offered name leaves nothing that may be the name of a file here.
    #[error("the offered name {0:?} is no name for a file")]
    Nameless(String),
    /// The system has no random numbers, or the cryptographic library does not work.
    #[error("the system gives no random numbers, or its cryptography does not work")]
    System,
}

impl ClientError {
    /// The line to the relay broke, or the other side left: a socket at its end says so.
    pub(crate) fn line(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => Self::Left,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Late,
            _ => Self::Line(error),
        }
    }

    /// The same of a line at whose end is nobody but the relay.
    pub(crate) fn relay_line(error: io::Error) -> Self {
        match Self::line(error) {
            Self::Left => Self::RelayLeft,
            error => error,
        }
    }
}

/// What the client of this side can do about a wrong code.
fn advice(ours: Side) -> &'static str {
    match ours {
        Side::Sender => {
            "somebody came with another one, and this one is used up: send again for a new one"
        }
        Side::Receiver => "it is used up now: ask the sender for a new one",
    }
}

/// A stranger's text, for a terminal: without characters that are invisible or turn text, and not too long.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|it| !is_invisible(*it)).take(SHOWN_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_moves_no_cursor() {
        assert_eq!(shown("no \u{1b}[2Jroom\r\n\u{9b}\u{202e}"), "no [2Jroom");
        assert_eq!(shown(&"x".repeat(1000)).len(), SHOWN_CHARACTERS_MAX);
    }
}
