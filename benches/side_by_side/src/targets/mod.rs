//! A target as the generator sees it: a sender's and a receiver's end can be opened on it, and the cost of its
//! processes can be read.

pub(crate) mod limit;
pub(crate) mod pair;
pub(crate) mod piping;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod setup;

use crate::Outcome;
use crate::end::End;
use crate::hearing::Expect;
use crate::process::Tree;
use crate::sample::Metric;
use crate::stream::Stream;
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Workers, processes or threads, of each program that can have several.
pub(crate) const WORKERS: usize = 2;

/// The body that a sender sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The body, with its length announced.
    Raw,
    /// The body in a chunked coding.
    Chunked,
    /// The file of a multipart form.
    Multipart,
}

/// Moves payload from a sender to a receiver.
pub(crate) trait Carrier {
    /// The processes that do so; `None` if there is nothing between the two.
    fn tree(&self) -> Option<&Tree>;

    /// In what it differs from its program's defaults, for the table.
    fn settings(&self) -> String;

    /// How connections have landed on workers since it was last asked, where that is left to chance.
    fn landed(&self) -> Vec<(Metric, f64)> {
        Vec::new()
    }

    /// Both ends of a transfer of so many bytes: connected, and about to begin.
    fn open(&self, bytes: u64) -> Outcome<Ends>;
}

/// Lets two parties exchange bytes both ways.
pub(crate) trait Pairing: Carrier {
    /// Two parties that are paired: what either one says arrives at the other.
    fn pair(&self) -> Outcome<[Stream; 2]>;
}

#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) sender: End,
    pub(crate) receiver: End,
}

/// A sender's and a receiver's connection that are kept alive, for one small exchange after another.
pub(crate) struct Lane {
    pub(crate) sender: Stream,
    pub(crate) receiver: Stream,
    pub(crate) requests: Requests,
    /// The answer that a sender has to get.
    pub(crate) answer: Expect,
}

/// The requests of a lane, by the number of the exchange, which begins with 1.
pub(crate) enum Requests {
    /// The same each time.
    Same { put: Vec<u8>, get: Vec<u8> },
    /// In a session of its own each time, which was issued before; the sender's further fields.
    Issued { paths: RefCell<Vec<String>>, fields: String, bytes: u64 },
    /// On a path of its own each time, which begins with this; so many bytes.
    Numbered { path: String, bytes: u64 },
}

impl Requests {
    pub(crate) fn put(&self, number: u64) -> Vec<u8> {
        match self {
            Self::Same { put, .. } => put.clone(),
            Self::Issued { fields, bytes, .. } => put(&self.path(number), fields, *bytes),
            Self::Numbered { bytes, .. } => put(&self.path(number), "", *bytes),
        }
    }

    pub(crate) fn get(&self, number: u64) -> Vec<u8> {
        match self {
            Self::Same { get, .. } => get.clone(),
            Self::Issued { .. } | Self::Numbered { .. } => request("GET", &self.path(number), ""),
        }
    }

    /// Empty if none is left.
    fn path(&self, number: u64) -> String {
        match self {
            Self::Same { .. } => String::new(),
            Self::Issued { paths, .. } => {
                let index = usize::try_from(number).unwrap_or_default().checked_sub(1);
                let path = index.and_then(|index| paths.borrow().get(index).cloned());
                path.unwrap_or_default()
            }
            Self::Numbered { path, .. } => format!("{path}{number}"),
        }
    }
}

/// A sender's whole small request; `fields` with their line ends.
pub(crate) fn put(path: &str, fields: &str, bytes: u64) -> Vec<u8> {
    let head = request("PUT", path, &format!("{fields}Content-Length: {bytes}\r\n"));
    [head.as_slice(), crate::payload::at(0, bytes)].concat()
}

/// A request's head; `fields` with their line ends.
pub(crate) fn request(method: &str, path: &str, fields: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n{fields}\r\n").into_bytes()
}

/// An address on which nobody listens, for a program that does not say which one it was given.
pub(crate) fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Waits until somebody accepts connections there.
pub(crate) fn until_ready(address: SocketAddr) -> Outcome<()> {
    crate::process::eventually(|| std::net::TcpStream::connect(address).ok())?;
    Ok(())
}
