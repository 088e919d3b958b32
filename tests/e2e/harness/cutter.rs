//! A line that breaks: a proxy on loopback between a client and a relay, which ends connections in mid-transfer.
//!
//! The relay's connection ends here, so bytes that this end's kernel has acknowledged count as delivered. A receiver's
//! line is therefore never cut where all of a file may have come to this end: that would be a proxy that loses bytes it
//! has taken, and no relay can know of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockRef, Socket, Type};

/// Bytes of an answer that the kernel may take without passing them on: the buffer, doubled, and a segment of loopback.
pub(crate) const TAKEN_BYTES_MAX: u64 = 256 << 10;
const BUFFER_BYTES: usize = 32 << 10;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Fin,
    Reset,
}

/// The client whose line this is. The cutter counts the bytes that this client sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Sender,
    Receiver,
}

/// A connection ends after so many bytes, heads included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) after: u64,
    pub(crate) by: By,
}

/// The line; it ends with the test.
#[derive(Debug)]
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    relay: SocketAddr,
    of: Of,
    /// Cuts still to be made; each connection takes the next.
    cuts: Mutex<Vec<Cut>>,
    /// No line is cut behind so many bytes of all that passes.
    end: u64,
    passed: AtomicU64,
    connections: AtomicU64,
    made: AtomicU64,
    is_over: AtomicBool,
}

impl Cutter {
    /// Connections to `relay` that are cut, one after the other, but none behind the byte `end` of all that passes.
    pub(crate) fn new(relay: SocketAddr, of: Of, cuts: Vec<Cut>, end: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let [passed, connections, made] = [const { AtomicU64::new(0) }; 3];
        let (cuts, is_over) = (Mutex::new(cuts), AtomicBool::new(false));
        let shared = Shared { relay, of, cuts, end, passed, connections, made, is_over };
        let shared = Arc::new(shared);
        let ours = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if ours.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (client, shared) = (client.unwrap(), Arc::clone(&ours));
                thread::spawn(move || shared.carry(client));
            }
        });
        Self { address, shared }
    }

    /// Connections that were cut.
    pub(crate) fn made(&self) -> u64 {
        self.shared.made.load(Ordering::Relaxed)
    }

    /// Connections, and the bytes that were counted on all of them.
    pub(crate) fn passed(&self) -> (u64, u64) {
        let [connections, passed] = [&self.shared.connections, &self.shared.passed];
        (connections.load(Ordering::Relaxed), passed.load(Ordering::Relaxed))
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn carry(&self, mut client: TcpStream) {
        let cut = self.cuts.lock().unwrap().pop();
        let left = self.end.saturating_sub(self.passed.load(Ordering::Relaxed));
        let cut = cut.filter(|cut| cut.after <= left);
        self.connections.fetch_add(1, Ordering::Relaxed);
        let line = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        line.set_recv_buffer_size(64 << 10).unwrap();
        if line.connect(&self.relay.into()).is_err() {
            return;
        }
        let mut relay: TcpStream = line.into();
        let limit = |of| cut.filter(|_| of == self.of).map_or(u64::MAX, |cut| cut.after);
        let (mut up, mut down) = (limit(Of::Sender), limit(Of::Receiver));
        let (mut client_speaks, mut relay_speaks) = (true, true);
        while (client_speaks || relay_speaks) && up > 0 && down > 0 {
            let [from_client, from_relay] =
                readable([&client, &relay], [client_speaks, relay_speaks]);
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let before = (up, down);
            let goes_on = (!from_client
                || pass(&mut client, &mut relay, &mut up, &mut client_speaks))
                && (!from_relay || pass(&mut relay, &mut client, &mut down, &mut relay_speaks));
            let counted = if self.of == Of::Sender { before.0 - up } else { before.1 - down };
            self.passed.fetch_add(counted, Ordering::Relaxed);
            if !goes_on {
                return;
            }
        }
        if let (Some(cut), true) = (cut, up == 0 || down == 0) {
            self.made.fetch_add(1, Ordering::Relaxed);
            if cut.by == By::Reset {
                for socket in [&client, &relay] {
                    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
                }
            }
        }
    }
}

/// Waits, for half a second at most, until bytes come from a socket that still speaks; returns which of the two has some.
fn readable(sockets: [&TcpStream; 2], speak: [bool; 2]) -> [bool; 2] {
    let events = speak.map(|speaks| if speaks { PollFlags::POLLIN } else { PollFlags::empty() });
    let [first, second] = sockets;
    let mut polled =
        [PollFd::new(first.as_fd(), events[0]), PollFd::new(second.as_fd(), events[1])];
    let _ = poll(&mut polled, PollTimeout::from(500u16));
    let said = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
    [speak[0] && said(&polled[0]), speak[1] && said(&polled[1])]
}

/// Passes on the bytes that have come, `limit` at most. `false`: the connection is broken.
fn pass(from: &mut TcpStream, to: &mut TcpStream, limit: &mut u64, speaks: &mut bool) -> bool {
    let mut buffer = [0; BUFFER_BYTES];
    let most = BUFFER_BYTES.min(usize::try_from(*limit).unwrap_or(BUFFER_BYTES));
    match from.read(&mut buffer[..most]) {
        Ok(0) => {
            *speaks = false;
            let _ = to.shutdown(std::net::Shutdown::Write);
            true
        }
        Ok(n) => {
            *limit -= n as u64;
            to.write_all(&buffer[..n]).is_ok()
        }
        Err(error) => error.kind() == ErrorKind::Interrupted,
    }
}
