//! The limits as targets; and nothing at all, the machine's loopback by itself.

use super::{Carrier, Ends, Lane, Pairing, Requests};
use crate::Outcome;
use crate::end::{End, Step};
use crate::hearing::Expect;
use crate::limits::{Limit, Running};
use crate::process::Tree;
use crate::stream::Stream;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// The ends of a transfer without HTTP: the first party sends.
pub(super) fn bare([sender, receiver]: [Stream; 2], bytes: u64, heard: Expect) -> Ends {
    // The end that a sender hears is the relay's, once it has passed everything on.
    let sent = [Step::Payload(bytes), Step::Shutdown, Step::Hear(Expect::Bare(0))];
    let received = [Step::Hear(heard), Step::Shutdown];
    Ends { sender: End::new(sender, sent), receiver: End::new(receiver, received) }
}

/// *copy* and *splice*, by turns.
impl Carrier for Running {
    fn tree(&self) -> Option<&Tree> {
        Some(&self.tree)
    }

    fn settings(&self) -> String {
        self.limit.settings()
    }

    fn open(&self, bytes: u64) -> Outcome<Ends> {
        let heard = match self.limit {
            Limit::CopyChunked(_) => Expect::Chunks(bytes),
            _ => Expect::Bare(bytes),
        };
        Ok(bare(self.pair()?, bytes, heard))
    }
}

/// The bytes pass one way alone.
impl Pairing for Running {
    fn pair(&self) -> Outcome<[Stream; 2]> {
        let receiver = Stream::connect(self.address, None)?;
        Ok([Stream::connect(self.address, None)?, receiver])
    }
}

/// No relay: the sender's connection is the receiver's.
#[derive(Debug)]
pub(crate) struct Direct;

impl Carrier for Direct {
    fn tree(&self) -> Option<&Tree> {
        None
    }

    fn settings(&self) -> String {
        "the sender's connection is the receiver's; no HTTP".to_owned()
    }

    fn open(&self, bytes: u64) -> Outcome<Ends> {
        Ok(bare(self.pair()?, bytes, Expect::Bare(bytes)))
    }
}

impl Pairing for Direct {
    fn pair(&self) -> Outcome<[Stream; 2]> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let sender = Stream::connect(listener.local_addr()?, None)?;
        Ok([sender, Stream::over(listener.accept()?.0, None)?])
    }
}

/// A lane through *meet*, the `number`th one.
pub(crate) fn meet_lane(meet: &Running, number: usize, bytes: u64) -> Outcome<Lane> {
    Ok(Lane {
        sender: Stream::connect(meet.address, None)?,
        receiver: Stream::connect(meet.address, None)?,
        requests: Requests::Numbered { path: format!("/{number}-"), bytes },
        answer: Expect::Answer,
    })
}

/// *echo*'s two connections: where to write, and where what was written arrives.
pub(crate) fn echo_ends(echo: &Running) -> Outcome<(TcpStream, TcpStream)> {
    debug_assert_ne!(echo.address.port(), 0, "{} is running", Limit::Echo);
    let sender = TcpStream::connect(echo.address)?;
    sender.set_nodelay(true)?;
    let mut line = String::new();
    // The first thing it says is where its second process listens; nothing follows.
    BufReader::new(&sender).read_line(&mut line)?;
    let second: SocketAddr = line.trim().parse()?;
    Ok((sender, TcpStream::connect(second)?))
}
