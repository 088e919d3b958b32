//! Whatever is measured, as the generator sees it: something that a sender's and a receiver's end can be
//! opened on, with processes whose cost can be read.

pub(crate) mod limit;
pub(crate) mod piping;
pub(crate) mod proxy;
pub(crate) mod relay;

use crate::Outcome;
use crate::end::End;
use crate::hearing::Expect;
use crate::process::Tree;
use crate::stream::Stream;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// The body that a sender sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// With its length announced.
    Raw,
    /// The file of a multipart form.
    Multipart,
}

/// Moves payload from a sender to a receiver.
pub(crate) trait Carrier {
    /// The processes that do so; `None` if there is nothing between the two.
    fn tree(&self) -> Option<&Tree>;

    /// Both ends of a transfer of so many bytes: connected, and about to begin.
    fn open(&self, bytes: u64) -> Outcome<Ends>;
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
    /// What a sender has to be told.
    pub(crate) answer: Expect,
}

/// The requests of a lane, by the number of the exchange.
pub(crate) enum Requests {
    /// The same each time.
    Same { put: Vec<u8>, get: Vec<u8> },
    /// On a path of its own each time, which begins with this; so many bytes.
    Numbered { path: String, bytes: u64 },
}

impl Requests {
    pub(crate) fn put(&self, number: u64) -> Vec<u8> {
        match self {
            Self::Same { put, .. } => put.clone(),
            Self::Numbered { path, bytes } => {
                let fields = format!("Content-Length: {bytes}\r\n");
                let head = request("PUT", &format!("{path}{number}"), &fields);
                [head.as_slice(), crate::payload::at(0, *bytes)].concat()
            }
        }
    }

    pub(crate) fn get(&self, number: u64) -> Vec<u8> {
        match self {
            Self::Same { get, .. } => get.clone(),
            Self::Numbered { path, .. } => request("GET", &format!("{path}{number}"), ""),
        }
    }
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
