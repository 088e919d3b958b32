//! strace on running workers: which bytes their system calls moved, and from or to which addresses. Called by the test
//! that proves where the payload lies.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use super::patience::eventually;
use super::proc::Pid;
use super::segment::MEMFD_NAME;

const CALLS: &str = "recvfrom,recvmsg,read,readv,sendto,sendmsg,write,writev,splice,sendfile";

/// A fault that strace injects into calls of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault<'a> {
    /// The calls by name, with commas between them.
    pub(crate) calls: &'a str,
    /// As strace has it: `error=EMFILE`, `signal=SIGSTOP`.
    pub(crate) effect: &'a str,
    /// The occurrences, counted from 1 in each process: `3`, `1..3`, `1+`.
    pub(crate) when: &'a str,
}

impl Fault<'_> {
    fn arguments(&self) -> [String; 4] {
        let Self { calls, effect, when } = self;
        let inject = format!("inject={calls}:{effect}:when={when}");
        ["-e".to_owned(), format!("trace={calls}"), "-e".to_owned(), inject]
    }

    /// A command to be completed by a program. The program meets the fault from its start, and so does each of its
    /// children, counting its own calls. The started process becomes the program; strace runs beside it, is nobody's
    /// parent, and ends with the last of them.
    pub(crate) fn command(&self, output: &Path) -> Command {
        let mut command = Command::new("strace");
        command.args(["-DD", "-f", "-qq"]).args(self.arguments()).arg("-o").arg(output);
        command
    }
}

/// strace on some processes; they go on untraced when it ends.
#[derive(Debug)]
pub(crate) struct Strace {
    child: Child,
    /// The file that strace writes; with `-ff` a file for each process: this name, a dot and the pid.
    output: PathBuf,
}

/// A call that moved bytes.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The second argument: a buffer, or for `readv`, `writev` and `*msg` what points to buffers.
    pub(crate) address: u64,
    pub(crate) bytes: u64,
}

impl Strace {
    /// Watches for calls that move bytes.
    pub(crate) fn attach(pids: &[Pid], output: &Path) -> Self {
        Self::attach_with(pids, CALLS, output, &[])
    }

    /// Watches for the calls named, as strace names them.
    pub(crate) fn watch(pids: &[Pid], calls: &str, output: &Path) -> Self {
        Self::attach_with(pids, calls, output, &[])
    }

    /// The call `number` of `name`, counted from 1 in each process, is not made: it fails with `error`.
    pub(crate) fn attach_failing(
        pids: &[Pid],
        output: &Path,
        name: &str,
        number: usize,
        error: &str,
    ) -> Self {
        let inject = format!("inject={name}:error={error}:when={number}");
        Self::attach_with(pids, CALLS, output, &["-e", &inject])
    }

    /// `pid` meets `fault`; children of it do not.
    pub(crate) fn attach_fault(pid: Pid, output: &Path, fault: &Fault<'_>) -> Self {
        let mut command = Command::new("strace");
        command.arg("-qq").args(fault.arguments());
        Self::run(command, &[pid], output)
    }

    /// How many faults strace has injected.
    pub(crate) fn injected(&self) -> usize {
        fs::read_to_string(&self.output).unwrap_or_default().matches("(INJECTED)").count()
    }

    fn attach_with(pids: &[Pid], calls: &str, output: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new("strace");
        let (trace, raw) = (format!("trace={calls}"), format!("raw={CALLS}"));
        command.args(["-qq", "-ff", "-e", &trace, "-e", &raw]).args(arguments);
        Self::run(command, pids, output)
    }

    fn run(mut command: Command, pids: &[Pid], output: &Path) -> Self {
        command.arg("-o").arg(output);
        for pid in pids {
            command.args(["-p", &pid.0.to_string()]);
        }
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("strace must be installed");
        let tracer = format!("TracerPid:\t{}\n", child.id());
        let strace = Self { child, output: output.to_owned() };
        let attached = |pid: &Pid| pid.read("status").contains(&tracer);
        eventually("strace attaches", || pids.iter().all(attached).then_some(()));
        strace
    }

    /// Lets go of the processes, so that all they did is written.
    pub(crate) fn detach(&mut self) {
        Pid(i32::try_from(self.child.id()).unwrap()).signal(Signal::SIGINT);
        let child = &mut self.child;
        eventually("strace ends", || child.try_wait().unwrap());
    }

    /// Returns the calls of `pid` while it was traced.
    pub(crate) fn calls(&self, pid: Pid) -> Vec<Call> {
        self.text(pid).lines().filter_map(Call::parse).collect()
    }

    /// The same, as strace has written it.
    pub(crate) fn text(&self, pid: Pid) -> String {
        let mut path = self.output.clone().into_os_string();
        path.push(format!(".{}", pid.0));
        fs::read_to_string(path).unwrap()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Call {
    /// `name(0xfd, 0xaddress, ...) = 0xbytes`; `None` for a call that failed.
    fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(") ")?;
        let address = number(arguments.split(',').nth(1)?)?;
        let bytes = number(result.trim_start().strip_prefix('=')?.trim().split(' ').next()?)?;
        Some(Self { name: name.to_owned(), address, bytes })
    }
}

fn number(text: &str) -> Option<u64> {
    match text.trim().strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.trim().parse().ok(),
    }
}

/// Where the segment is mapped in a process.
pub(crate) fn segment_addresses(pid: Pid) -> Range<u64> {
    let maps = pid.read("maps");
    let line = maps.lines().find(|l| l.contains(MEMFD_NAME)).expect("the segment is mapped");
    let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
    u64::from_str_radix(start, 16).unwrap()..u64::from_str_radix(end, 16).unwrap()
}
