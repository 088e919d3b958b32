//! Asks a running relay for its status, over its admin listener. Called by `cli`.
//!
//! The answering program counts as a stranger: its answer is bounded and parsed, and nothing else of it is printed.

use super::status::StatusReport;
use crate::sys::operator::{self, ListenAddress};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Far more than any answer has.
const ANSWER_BYTES_MAX: usize = 1 << 20;

const REQUEST: &[u8] = b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The configuration names no admin listener.
    #[error("the configuration has no admin listener: set `listen` in the section [admin]")]
    NoListener,
    /// The kernel chose the port, and told only the process that started the relay.
    #[error(
        "the port of the admin listener {0} is chosen at each start: set a fixed one in [admin]"
    )]
    AnyPort(SocketAddr),
    /// The admin listener did not answer.
    #[error("the admin listener {address} does not answer")]
    Silent {
        /// The address that was asked.
        address: ListenAddress,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answering program is not an admin listener of this program.
    #[error("the program at {0} is not the admin listener of this version of idontstore")]
    Strange(ListenAddress),
}

/// The status of the relay that answers at `address`, in words.
pub fn ask_status(address: Option<&ListenAddress>) -> Result<String, AskError> {
    let address = address.ok_or(AskError::NoListener)?;
    if let ListenAddress::Tcp(chosen) = address
        && chosen.port() == 0
    {
        return Err(AskError::AnyPort(*chosen));
    }
    let answer = exchange(address);
    let answer = answer.map_err(|source| AskError::Silent { address: address.clone(), source })?;
    let strange = || AskError::Strange(address.clone());
    let report = parse(&answer).ok_or_else(strange)?;
    Ok(report.to_string())
}

fn exchange(address: &ListenAddress) -> io::Result<Vec<u8>> {
    let mut socket = operator::connect(address, PATIENCE)?;
    socket.write_all(REQUEST)?;
    let (mut answer, mut room) = (Vec::new(), vec![0; 65_536]);
    let begun = Instant::now();
    while answer.len() < ANSWER_BYTES_MAX {
        match socket.read(&mut room) {
            Ok(0) => return Ok(answer),
            Ok(bytes) => answer.extend_from_slice(room.get(..bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
        if begun.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(answer)
}

fn parse(answer: &[u8]) -> Option<StatusReport> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let body = answer.get(end + 4..)?;
    answer.starts_with(b"HTTP/1.1 200 ").then(|| serde_json::from_slice(body).ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn error(address: Option<&str>) -> String {
        let address = address.map(|text| ListenAddress::parse(text).unwrap());
        ask_status(address.as_ref()).unwrap_err().to_string()
    }

    #[test]
    fn it_says_why_there_is_no_status() {
        assert!(error(None).contains("[admin]"));
        assert!(error(Some("127.0.0.1:0")).contains("chosen at each start"));
        let directory = tempfile::tempdir().unwrap();
        let path = format!("unix:{}/a.sock", directory.path().display());
        assert_eq!(error(Some(&path)), format!("the admin listener {path} does not answer"));
    }

    #[test]
    fn what_is_no_status_is_turned_down() {
        for answer in ["", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n{}", "SSH-2.0-x\r\n"]
        {
            assert!(parse(answer.as_bytes()).is_none(), "{answer:?}");
        }
    }
}
