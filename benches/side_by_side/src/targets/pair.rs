//! Targets that let two parties exchange bytes. The relay and Magic Wormhole's transit relay join two clients that bring
//! the same name. HAProxy and socat join a client with a party that listens; the generator is both.

use super::limit::bare;
use super::proxy::Proxy;
use super::relay::{Placement, Relay};
use super::{Carrier, Ends, Pairing, free_address, until_ready};
use crate::Outcome;
use crate::end::{End, Step};
use crate::hearing::Expect;
use crate::process::{Tree, eventually};
use crate::sample::Metric;
use crate::stream::Stream;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The answer of a transit relay to both parties once they are paired.
const PAIRED: &[u8] = b"ok\n";
/// The program by which Python prints the versions of the transit relay, of Twisted and of itself.
const VERSIONS: &str = "import platform; from importlib.metadata import version as of; \
    print(of('magic-wormhole-transit-relay') + ', Twisted', of('twisted') + ', Python', platform.python_version())";
/// How long socat waits for one party's bytes when the other party has no more: by default half a second.
const SOCAT_SECONDS: &str = "60";

/// The names of pairs so far. No two targets share them, though they could.
static PAIRS: AtomicU64 = AtomicU64::new(1);

/// Both ends of a transfer from the first party to the second.
fn one_way(pairing: &impl Pairing, bytes: u64) -> Outcome<Ends> {
    Ok(bare(pairing.pair()?, bytes, Expect::Bare(bytes)))
}

/// The ends of two transfers, from each party to the other at once. A party closes once it has sent and heard all: a transit
/// relay ends both directions when a party sends no more.
pub(crate) fn both_ways(pairing: &dyn Pairing, bytes: u64) -> Outcome<Vec<Ends>> {
    let parties = pairing.pair()?;
    let [first, second] = [parties[0].share()?, parties[1].share()?];
    let [one, other] = parties;
    let ends = |from, to| Ends {
        sender: End::new(from, [Step::Payload(bytes)]),
        receiver: End::new(to, [Step::Hear(Expect::Bytes(bytes))]),
    };
    Ok(vec![ends(first, other), ends(second, one)])
}

/// Has two clients ask a transit relay for each other, and waits until it has told both that they are paired.
fn meet(parties: &mut [Stream; 2]) -> Outcome<()> {
    let token = PAIRS.fetch_add(1, Ordering::Relaxed);
    for (side, party) in parties.iter_mut().enumerate() {
        let line = format!("please relay {token:064x} for side {side:016x}\n");
        party.write_all(line.as_bytes())?;
    }
    for party in parties {
        let mut answer = [0; PAIRED.len()];
        party.read_exact(&mut answer)?;
        if answer != PAIRED {
            return Err(format!("answered {}", String::from_utf8_lossy(&answer)).into());
        }
    }
    Ok(())
}

/// idontstore, with the parties placed in one way.
#[derive(Debug)]
pub(crate) struct PlacedPairs {
    pub(crate) relay: Rc<Relay>,
    pub(crate) placement: Placement,
}

impl Carrier for PlacedPairs {
    fn tree(&self) -> Option<&Tree> {
        Some(&self.relay.tree)
    }

    fn settings(&self) -> String {
        format!("{}; {}", self.relay.settings, self.placement)
    }

    fn landed(&self) -> Vec<(Metric, f64)> {
        match self.placement {
            Placement::AsTheyLand => self.relay.landed(),
            Placement::OneWorker | Placement::TwoWorkers => Vec::new(),
        }
    }

    fn open(&self, bytes: u64) -> Outcome<Ends> {
        one_way(self, bytes)
    }
}

impl Pairing for PlacedPairs {
    fn pair(&self) -> Outcome<[Stream; 2]> {
        let (receiver, sender) = self.relay.pair(self.placement)?;
        let mut parties = [sender, receiver];
        meet(&mut parties)?;
        Ok(parties)
    }
}

/// Magic Wormhole's transit relay, a program in Python.
#[derive(Debug)]
pub(crate) struct TransitRelay {
    tree: Tree,
    address: SocketAddr,
}

impl TransitRelay {
    /// The versions of it and of what it runs on; `None` where `twist` does not have it.
    pub(crate) fn version(twist: &Path) -> Option<String> {
        // Python stands beside it.
        let python = twist.with_file_name("python3");
        let output = Command::new(python).args(["-c", VERSIONS]).stderr(Stdio::null()).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(format!("transit relay {}", String::from_utf8_lossy(&output.stdout).trim()))
    }

    pub(crate) fn start(twist: &Path) -> Outcome<Self> {
        let address = free_address()?;
        let port = format!("--port=tcp:{}:interface={}", address.port(), address.ip());
        let arguments = ["transitrelay", &port].map(OsStr::new);
        let mut tree = Tree::start(twist, &arguments, Stdio::null())?;
        until_ready(address)?;
        tree.settle_at(1)?;
        Ok(Self { tree, address })
    }
}

impl Carrier for TransitRelay {
    fn tree(&self) -> Option<&Tree> {
        Some(&self.tree)
    }

    fn settings(&self) -> String {
        "as it comes; what it logs of each connection goes to /dev/null".to_owned()
    }

    fn open(&self, bytes: u64) -> Outcome<Ends> {
        one_way(self, bytes)
    }
}

impl Pairing for TransitRelay {
    fn pair(&self) -> Outcome<[Stream; 2]> {
        let connect = || Stream::connect(self.address, None);
        let mut parties = [connect()?, connect()?];
        meet(&mut parties)?;
        Ok(parties)
    }
}

/// A client of a program that listens at `address`, and the connection that the program makes to `origin` for it.
pub(super) fn through(address: SocketAddr, origin: &TcpListener) -> Outcome<[Stream; 2]> {
    let client = eventually(|| TcpStream::connect(address).ok())?;
    let (second, _) = eventually(|| origin.accept().ok())?;
    Ok([Stream::over(client, None)?, Stream::over(second, None)?])
}

/// HAProxy that passes bytes of any kind.
#[derive(Debug)]
pub(crate) struct PassingProxy(pub(crate) Proxy);

impl Carrier for PassingProxy {
    fn tree(&self) -> Option<&Tree> {
        Some(&self.0.tree)
    }

    fn settings(&self) -> String {
        self.0.settings.clone()
    }

    fn open(&self, bytes: u64) -> Outcome<Ends> {
        one_way(self, bytes)
    }
}

impl Pairing for PassingProxy {
    fn pair(&self) -> Outcome<[Stream; 2]> {
        through(self.0.address, &self.0.origin)
    }
}

/// socat, which starts a process for each pair.
#[derive(Debug)]
pub(crate) struct Socat {
    tree: Tree,
    address: SocketAddr,
    origin: TcpListener,
    buffer_kib: Option<usize>,
}

impl Socat {
    /// The version of socat; `None` where there is no socat.
    pub(crate) fn version() -> Option<String> {
        let output = Command::new("socat").arg("-V").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.starts_with("socat version"))?;
        Some(line.split(" on ").next().unwrap_or_default().to_owned())
    }

    /// `buffer_kib`: `None`, as socat chooses.
    pub(crate) fn start(buffer_kib: Option<usize>) -> Outcome<Self> {
        let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        origin.set_nonblocking(true)?;
        let address = free_address()?;
        let listen =
            format!("TCP-LISTEN:{},bind={},fork,backlog=128", address.port(), address.ip());
        let connect = format!("TCP:{}", origin.local_addr()?);
        let buffer = buffer_kib.map(|kib| (kib << 10).to_string());
        let mut arguments = vec!["-t", SOCAT_SECONDS];
        arguments.extend(buffer.iter().flat_map(|bytes| ["-b", bytes]));
        arguments.extend([&*listen, &*connect]);
        let arguments: Vec<&OsStr> = arguments.into_iter().map(OsStr::new).collect();
        let mut tree = Tree::start("socat".as_ref(), &arguments, Stdio::null())?.forking();
        through(address, &origin)?;
        tree.settle_at(1)?;
        Ok(Self { tree, address, origin, buffer_kib })
    }

    /// As the table names it.
    pub(crate) fn name(buffer_kib: Option<usize>) -> String {
        buffer_kib.map_or_else(|| "socat own buffers".to_owned(), |kib| format!("socat {kib} KiB"))
    }
}

impl Carrier for Socat {
    fn tree(&self) -> Option<&Tree> {
        Some(&self.tree)
    }

    fn settings(&self) -> String {
        let buffers = self.buffer_kib.map_or_else(
            || "buffers as it chooses".to_owned(),
            |kib| format!("buffers of {kib} KiB (`-b`)"),
        );
        format!("a process for each pair (`fork`); {buffers}; `-t {SOCAT_SECONDS}`, `backlog=128`")
    }

    fn open(&self, bytes: u64) -> Outcome<Ends> {
        one_way(self, bytes)
    }
}

impl Pairing for Socat {
    fn pair(&self) -> Outcome<[Stream; 2]> {
        through(self.address, &self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carry::carry_all;
    use crate::targets::limit::Direct;

    #[test]
    fn bytes_pass_both_ways_at_once() -> Outcome<()> {
        let bytes = 8 << 20;
        let sample = carry_all(None, bytes, true, || both_ways(&Direct, bytes))?;
        assert!(sample.of(Metric::GibPerSecond).is_some());
        Ok(())
    }
}
