//! Reads what `/proc` says about a process and its sockets. Called by `relay` and by the tests that measure memory, fds and
//! queues. A process that is gone gives empty answers, never a panic: tests kill things.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use super::needs::needs;
use super::patience::eventually;

/// A process that this test started, or a child of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pid(pub(crate) i32);

/// Whether this process may look into sandboxed processes, as most tests have to. This takes `CAP_SYS_PTRACE`.
pub(crate) fn may_look_in() -> bool {
    const SYS_PTRACE: u32 = 19;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ours = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(ours, 16).unwrap() & (1 << SYS_PTRACE) != 0
}

/// Returns whether root runs this test and may look into processes under the sandbox; if not, notes that it is skipped.
#[track_caller]
pub(crate) fn needs_root_to_look_in() -> bool {
    needs("root", nix::unistd::geteuid().is_root() && may_look_in())
}

/// User memory of a process, KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryUse {
    pub(crate) private_kib: u64,
    pub(crate) pss_kib: u64,
    /// Pages that the process has written to, though others may still see the same pages since a fork.
    pub(crate) anonymous_kib: u64,
}

impl Pid {
    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    pub(crate) fn read(self, name: &str) -> String {
        fs::read(self.file(name))
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    }

    /// The title as `ps` shows it.
    pub(crate) fn title(self) -> String {
        self.read("cmdline").trim_end_matches('\0').replace('\0', " ").trim_end().to_owned()
    }

    /// State letter and parent, from the fields behind the command's closing bracket.
    fn stat(self) -> Option<(char, i32)> {
        let stat = self.read("stat");
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
        Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
    }

    /// Running or stopped; a zombie is not alive.
    pub(crate) fn is_alive(self) -> bool {
        self.stat().is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
    }

    fn is_stopped(self) -> bool {
        self.stat().is_some_and(|(state, _)| state == 'T')
    }

    pub(crate) fn children(self) -> Vec<Pid> {
        let mut children: Vec<_> =
            all().filter(|p| p.stat().is_some_and(|(_, parent)| parent == self.0)).collect();
        children.sort_unstable();
        children
    }

    /// Lists the living processes of the group that this process leads, or has led.
    pub(crate) fn group(self) -> Vec<Pid> {
        let leader = Some(nix::unistd::Pid::from_raw(self.0));
        let group = |p: &Pid| nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(p.0))).ok();
        all().filter(|p| group(p) == leader && p.is_alive()).collect()
    }

    pub(crate) fn signal(self, signal: Signal) {
        match kill(nix::unistd::Pid::from_raw(self.0), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => panic!("signal {signal} to {}: {e}", self.0),
        }
    }

    /// Lists the open descriptors, each with its link.
    pub(crate) fn fds(self) -> Vec<(u32, String)> {
        let Ok(entries) = fs::read_dir(self.file("fd")) else { return Vec::new() };
        let link = |e: fs::DirEntry| {
            let number = e.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(e.path()).ok()?.to_string_lossy().into_owned()))
        };
        entries.filter_map(|e| link(e.ok()?)).collect()
    }

    /// CPU time that it has used, user and system, in ticks of 10 ms.
    pub(crate) fn cpu(self) -> Duration {
        self.cpu_fields(&[11, 12])
    }

    /// The same together with its children's that have ended.
    pub(crate) fn cpu_of_all(self) -> Duration {
        self.cpu_fields(&[11, 12, 13, 14])
    }

    fn cpu_fields(self, numbers: &[usize]) -> Duration {
        let stat = self.read("stat");
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |field: &usize| fields.get(*field).map_or(0, |ticks| ticks.parse().unwrap());
        Duration::from_millis(10 * numbers.iter().map(ticks).sum::<u64>())
    }

    /// How often it has slept and was woken.
    pub(crate) fn wake_ups(self) -> u64 {
        let status = self.read("status");
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.map_or(0, |count| count.trim().parse().unwrap())
    }

    pub(crate) fn memory(self) -> MemoryUse {
        let rollup = self.read("smaps_rollup");
        let sum = |names: &[&str]| {
            let values = rollup.lines().filter(|l| names.iter().any(|n| l.starts_with(n)));
            values.map(|l| l.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
        };
        MemoryUse {
            private_kib: sum(&["Private_Clean:", "Private_Dirty:"]),
            pss_kib: sum(&["Pss:"]),
            anonymous_kib: sum(&["Anonymous:"]),
        }
    }

    /// True once the process is gone, within `limit`.
    pub(crate) fn is_gone_within(self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.is_alive() {
            if start.elapsed() > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok().map(Pid))
}

/// Stopped processes; they go on when this is dropped, also when the test fails.
#[derive(Debug)]
pub(crate) struct Stopped(Vec<Pid>);

impl Stopped {
    #[track_caller]
    pub(crate) fn hold(pids: &[Pid]) -> Self {
        let stopped = Self(pids.to_vec());
        pids.iter().for_each(|p| p.signal(Signal::SIGSTOP));
        eventually("they stand still", || pids.iter().all(|p| p.is_stopped()).then_some(()));
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|p| p.signal(Signal::SIGCONT));
    }
}

/// Unread bytes in sockets whose own end is `local`.
pub(crate) fn tcp_unread(local: SocketAddr) -> u64 {
    tcp_rows().filter(|row| row.local == hex(local)).map(|row| row.unread).sum()
}

/// Bytes in the kernel's queues of the TCP socket whose own end is `local`: (to be sent or unacknowledged, to be read).
pub(crate) fn tcp_queues(local: SocketAddr, remote: SocketAddr) -> Option<(u64, u64)> {
    let (local, remote) = (hex(local), hex(remote));
    let row = tcp_rows().find(|row| row.local == local && row.remote == remote)?;
    Some((row.unsent, row.unread))
}

/// A connection in the kernel's table.
struct TcpRow {
    local: String,
    remote: String,
    unsent: u64,
    unread: u64,
}

/// The connections of this machine, without the sockets that listen.
fn tcp_rows() -> impl Iterator<Item = TcpRow> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows: Vec<_> = table.lines().filter_map(TcpRow::parse).collect();
    rows.into_iter()
}

impl TcpRow {
    fn parse(line: &str) -> Option<Self> {
        const LISTENS: &str = "0A";
        let mut fields = line.split_whitespace().skip(1).map(str::to_owned);
        let (local, remote) = (fields.next()?, fields.next()?);
        fields.next().filter(|state| state != LISTENS)?;
        let queues = fields.next()?;
        let (unsent, unread) = queues.split_once(':')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { local, remote, unsent: number(unsent)?, unread: number(unread)? })
    }
}

/// An address as the table has it.
fn hex(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => {
            format!("{:08X}:{:04X}", u32::from_le_bytes(v4.ip().octets()), v4.port())
        }
        SocketAddr::V6(_) => panic!("the tests' sockets are IPv4"),
    }
}
