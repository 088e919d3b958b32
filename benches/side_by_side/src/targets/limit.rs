//! The limits as targets; and nothing at all, the machine's loopback by itself.

use super::{Carrier, Ends, Lane, Requests};
use crate::Outcome;
use crate::end::{End, Step};
use crate::hearing::Expect;
use crate::limits::{Limit, Running};
use crate::process::Tree;
use crate::stream::Stream;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

fn bare(sender: TcpStream, receiver: TcpStream, bytes: u64, heard: Expect) -> Outcome<Ends> {
    // The end that a sender hears is the relay's, once it has passed everything on.
    let sent = [Step::Payload(bytes), Step::Shutdown, Step::Hear(Expect::Bare(0))];
    let received = [Step::Hear(heard), Step::Shutdown];
    Ok(Ends {
        sender: End::new(Stream::over(sender, None)?, sent),
        receiver: End::new(Stream::over(receiver, None)?, received),
    })
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
        let receiver = TcpStream::connect(self.address)?;
        let heard = match self.limit {
            Limit::CopyChunked(_) => Expect::Chunks(bytes),
            _ => Expect::Bare(bytes),
        };
        bare(TcpStream::connect(self.address)?, receiver, bytes, heard)
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let sender = TcpStream::connect(listener.local_addr()?)?;
        bare(sender, listener.accept()?.0, bytes, Expect::Bare(bytes))
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
