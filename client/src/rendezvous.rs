//! The way to a peer over bare TCP: a connection to the relay, and the messages of dialect TLV until the two are paired.
//!
//! A sender [registers](Waiting::register), tells its code to a person, and [waits](Waiting::peer). A receiver
//! [joins](join). Invariant: no byte behind the relay's last message is read here, since it is the peer's.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use wire::pair::tlv::{Code, HEADER_BYTES, Reply, Request, VALUE_BYTES_MAX};

use crate::error::{ClientError, shown};

/// The longest time that a connection may take to be made, for each address of the relay.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest silence of a relay, which says each 20 s that the peer has not come.
const RELAY_SILENCE: Duration = Duration::from_secs(90);
/// The time without a byte after which the kernel asks whether the relay's machine is there, and how often it asks then.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// The address of a relay: `host:port` or `[v6]:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayAddress(String);

/// A sender that waits for its receiver.
#[derive(Debug)]
pub(crate) struct Waiting {
    stream: TcpStream,
    key: String,
    lifetime: Duration,
}

impl RelayAddress {
    /// Reads what a person types. `None`: it is no `host:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let is_host = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(is_host_byte),
        };
        let port: u16 = port.parse().ok()?;
        (is_host && port != 0).then(|| Self(text.to_owned()))
    }

    /// The address as it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn connect(&self) -> Result<TcpStream, ClientError> {
        self.try_connect()
            .map_err(|source| ClientError::Unreachable { relay: self.0.clone(), source })
    }

    fn try_connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.0.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    let asks = TcpKeepalive::new().with_time(KEEPALIVE);
                    let asks = asks.with_interval(KEEPALIVE_INTERVAL);
                    SockRef::from(&stream).set_tcp_keepalive(&asks)?;
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(RELAY_SILENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

/// A message of the relay, whole.
#[derive(Debug)]
struct Message {
    bytes: [u8; HEADER_BYTES + VALUE_BYTES_MAX],
    filled: usize,
}

impl Message {
    fn read(stream: &mut impl Read) -> Result<Self, ClientError> {
        let mut it = Self { bytes: [0; HEADER_BYTES + VALUE_BYTES_MAX], filled: 0 };
        it.fill(stream, HEADER_BYTES)?;
        // The header alone tells a bad length.
        if it.reply()?.is_none() {
            let length =
                it.bytes.first_chunk().map_or(0, |&[_, a, b, c, d]: &[u8; HEADER_BYTES]| {
                    u32::from_be_bytes([a, b, c, d])
                });
            let value_bytes = usize::try_from(length).unwrap_or(usize::MAX).min(VALUE_BYTES_MAX);
            it.fill(stream, HEADER_BYTES + value_bytes)?;
        }
        Ok(it)
    }

    fn fill(&mut self, stream: &mut impl Read, to: usize) -> Result<(), ClientError> {
        let room = self.bytes.get_mut(self.filled..to).unwrap_or_default();
        stream.read_exact(room).map_err(ClientError::relay_line)?;
        self.filled = to;
        Ok(())
    }

    fn reply(&self) -> Result<Option<Reply<'_>>, ClientError> {
        let found = Reply::parse(self.bytes.get(..self.filled).unwrap_or_default());
        Ok(found.map_err(|_| ClientError::NoRelay)?.map(|(reply, _)| reply))
    }
}

fn ask(relay: &RelayAddress, request: Request<'_>) -> Result<TcpStream, ClientError> {
    let mut bytes = Vec::new();
    request.encode(&mut bytes).map_err(|_| ClientError::NoRelay)?;
    let mut stream = relay.connect()?;
    stream.write_all(&bytes).map_err(ClientError::relay_line)?;
    Ok(stream)
}

/// Waits until the relay says that the peer is there, for `at_most` this time.
fn until_paired(mut stream: TcpStream, at_most: Duration) -> Result<TcpStream, ClientError> {
    let began = Instant::now();
    loop {
        match Message::read(&mut stream)?.reply()? {
            Some(Reply::Paired) => return Ok(stream),
            Some(Reply::Waiting) if began.elapsed() > at_most => {
                return Err(ClientError::NobodyCame);
            }
            Some(Reply::Waiting) => {}
            Some(Reply::Error { text, .. }) => return Err(ClientError::Relay(shown(text))),
            Some(Reply::Code { .. }) | None => return Err(ClientError::NoRelay),
        }
    }
}

impl Waiting {
    /// Asks the relay for a session.
    pub(crate) fn register(relay: &RelayAddress) -> Result<Self, ClientError> {
        let mut stream = ask(relay, Request::RegisterSender)?;
        let message = Message::read(&mut stream)?;
        match message.reply()? {
            Some(Reply::Code { lifetime_s, code }) => {
                let (key, lifetime) =
                    (code.as_str().to_owned(), Duration::from_secs(lifetime_s.into()));
                Ok(Self { stream, key, lifetime })
            }
            Some(Reply::Error { text, .. }) => Err(ClientError::Relay(shown(text))),
            _ => Err(ClientError::NoRelay),
        }
    }

    /// The session's key: the first part of a code.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The time within which the receiver has to come.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Waits for the receiver.
    pub(crate) fn peer(self) -> Result<TcpStream, ClientError> {
        until_paired(self.stream, self.lifetime.saturating_add(RELAY_SILENCE))
    }
}

/// Joins the sender whose code has this `key`.
pub(crate) fn join(relay: &RelayAddress, key: &str) -> Result<TcpStream, ClientError> {
    let code = Code::new(key).ok_or(ClientError::NoRelay)?;
    until_paired(ask(relay, Request::RegisterReceiver(code))?, RELAY_SILENCE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_told_from_files_and_links() {
        for text in ["localhost:9021", "relay.example:1", "127.0.0.1:65535", "[::1]:9021"] {
            assert_eq!(RelayAddress::parse(text).unwrap().as_str(), text);
        }
        for text in
            ["", "file", ":9021", "host:", "host:0", "host:65536", "::1:9021", "a/b:1", "[x]:1"]
        {
            assert_eq!(RelayAddress::parse(text), None, "{text:?}");
        }
        for text in ["http://host:80", "https://host"] {
            assert_eq!(RelayAddress::parse(text), None, "{text:?}");
        }
    }

    fn read(bytes: &[u8]) -> (Result<Message, ClientError>, usize) {
        let mut rest = bytes;
        let message = Message::read(&mut rest);
        (message, rest.len())
    }

    #[test]
    fn what_stands_behind_the_last_message_is_the_peers() {
        let (message, rest) = read(b"\x83\0\0\0\0peer");
        assert!(matches!(message.unwrap().reply(), Ok(Some(Reply::Paired))));
        assert_eq!(rest, 4);
        let (message, rest) = read(b"\x81\0\0\0\x07\0\0\0\x09keypeer");
        let message = message.unwrap();
        let reply = message.reply().unwrap().unwrap();
        assert!(matches!(reply, Reply::Code { lifetime_s: 9, code } if code.as_str() == "key"));
        assert_eq!(rest, 4);
    }

    #[test]
    fn what_no_relay_says_ends_it() {
        assert!(matches!(read(b"HTTP/1.1 503 ").0, Err(ClientError::NoRelay)));
        assert!(matches!(read(b"\x84\xff\xff\xff\xff").0, Err(ClientError::NoRelay)));
        assert!(matches!(read(b"\x84\0\0").0, Err(ClientError::RelayLeft)));
    }
}
