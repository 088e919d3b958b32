//! Networks of a test's own: two namespaces with a line between them that a test can cut, so that a machine is lost
//! without a FIN or a reset. Also reads the timers of a connection from the kernel's table.
//!
//! A namespace lives as long as a process in it. The process that holds it ends with the pipe from this test, so nothing
//! is left behind, whatever happens to the test.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::needs::needs;
use super::patience::eventually;
use super::proc::Pid;

/// The address of each end of the line.
pub(crate) const NEAR: &str = "192.0.2.1";
pub(crate) const FAR: &str = "192.0.2.2";

/// Two machines and a line between them.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) near: Machine,
    pub(crate) far: Machine,
}

/// A network namespace with the end of a line.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Waits for the end of its input.
    holder: Child,
}

impl Line {
    /// Lays a line between two new machines. Where this process may not make namespaces, notes so and returns `None`.
    pub(crate) fn lay() -> Option<Self> {
        if !needs("namespaces", Machine::can_be_made()) {
            return None;
        }
        let line = Self { near: Machine::start(), far: Machine::start() };
        let far = line.far.holder.id().to_string();
        let ends = ["type", "veth", "peer", "name", "line", "netns", &far];
        line.near.ip(&[&["link", "add", "name", "line"][..], &ends].concat());
        for (machine, address) in [(&line.near, NEAR), (&line.far, FAR)] {
            machine.ip(&["addr", "add", &format!("{address}/24"), "dev", "line"]);
            machine.ip(&["link", "set", "dev", "lo", "up"]);
            machine.ip(&["link", "set", "dev", "line", "up"]);
        }
        let is_up =
            |machine: &Machine| machine.ip(&["link", "show", "dev", "line"]).contains("LOWER_UP");
        eventually("the line is up", || (is_up(&line.near) && is_up(&line.far)).then_some(()));
        Some(line)
    }

    /// Cuts the line: from now on nothing comes through, and neither machine is told.
    pub(crate) fn cut(&self) {
        self.far.ip(&["link", "set", "dev", "line", "down"]);
    }
}

impl Machine {
    fn can_be_made() -> bool {
        let made = Command::new("unshare").args(["--net", "true"]).output();
        made.is_ok_and(|it| it.status.success())
    }

    fn start() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let machine = Self { holder: command.spawn().expect("starting unshare") };
        let pid = Pid(i32::try_from(machine.holder.id()).unwrap());
        // `unshare` becomes `cat` only once the namespace is made.
        eventually("a namespace", || (pid.title() == "cat").then_some(()));
        machine
    }

    /// A command that runs here, under the process id that it is started with.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let holder = self.holder.id().to_string();
        command.args(["--net", "--target", &holder, program]).stdin(Stdio::null());
        command
    }

    /// Sets a value under `net.ipv4`.
    #[track_caller]
    pub(crate) fn set(&self, name: &str, value: &str) {
        let write = format!("echo {value} >/proc/sys/net/ipv4/{name}");
        let output = self.command("sh").args(["-c", &write]).output().unwrap();
        assert!(output.status.success(), "{write}: {}", text(&output.stderr));
    }

    #[track_caller]
    pub(crate) fn ip(&self, arguments: &[&str]) -> String {
        let output = self.command("ip").args(arguments).output().expect("ip must be installed");
        assert!(output.status.success(), "ip {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// The kernel's timer of an IPv4 connection of this machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Timer {
    /// 2: keep-alive.
    pub(crate) kind: u8,
    /// Hundredths of a second until the timer fires.
    pub(crate) hundredths: u64,
}

/// The timer of the socket whose own end is `local`.
pub(crate) fn tcp_timer(local: SocketAddr, remote: SocketAddr) -> Option<Timer> {
    let hex = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => {
            format!("{:08X}:{:04X}", u32::from_le_bytes(v4.ip().octets()), v4.port())
        }
        SocketAddr::V6(_) => panic!("the tests' sockets are IPv4"),
    };
    let (local, remote) = (hex(local), hex(remote));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ends = [Some(local.as_str()), Some(remote.as_str())];
    let mut rows = rows.filter(|row| [row.get(1).copied(), row.get(2).copied()] == ends);
    let (kind, hundredths) = rows.next()?.get(5)?.split_once(':')?;
    Some(Timer { kind: kind.parse().ok()?, hundredths: u64::from_str_radix(hundredths, 16).ok()? })
}
