//! Machines that lack something: the relay does without it, and serves, reloads and upgrades as elsewhere.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::{BINARY, Fault, Payload, Pid, Raw, Relay, Shape, eventually, needs_root};

/// Memory of the control group, and the part of it that the segment has by default.
const GROUP_BYTES: u64 = 1 << 30;
const GROUP_SHARE: u64 = 16;

/// The program after `prepare`, in a mount namespace of its own.
fn in_a_view(prepare: &str) -> Command {
    let script = format!("mount --make-rprivate / && {prepare} && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, BINARY]);
    command
}

/// Checks that a worker started by `command` serves, and so do its successors.
#[track_caller]
fn expect_service(command: Command) -> Relay {
    let relay = Relay::run(command, 1, &[], None);
    let transfer = || relay.session().transfer(&Payload::new(1, 4 << 20), Shape::Length);
    transfer();
    relay.reload(1, &[]);
    transfer();
    relay.upgrade(1, &[]);
    transfer();
    assert!(!relay.errors().contains("ERROR"), "{}", relay.errors());
    relay
}

#[test]
fn it_serves_without_dev() {
    if needs_root() {
        expect_service(in_a_view("mount -t tmpfs none /dev"));
    }
}

/// A program that is killed when this is dropped, if it has not ended by itself.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_serves_without_proc_and_knows_how_much_memory_there_is() {
    if !needs_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let control = format!("control_socket = {:?}\n", path("control"));
    let rest =
        "workers = 1\nmemory.segment_bytes = \"16MiB\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n";
    fs::write(path("test.toml"), control + rest).unwrap();
    // This test runs the program itself: without /proc the harness sees no titles, and so knows no workers.
    let mut command = in_a_view("umount -l /proc");
    command.arg("-c").arg(path("test.toml")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut master =
        Running(command.stderr(File::create(path("stderr")).unwrap()).spawn().unwrap());
    let mut said = BufReader::new(master.0.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let errors = || fs::read_to_string(path("stderr")).unwrap();
    let address =
        line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{}", errors()));
    let ask = || {
        Raw::connect(address.parse().unwrap()).request("POST", "/", &[]).read_response().expect(201)
    };
    ask();
    for request in ["reload", "upgrade"] {
        let mut asked = Command::new(BINARY);
        asked.arg("-c").arg(path("test.toml")).args(["-s", request]);
        let output = asked.output().unwrap();
        assert!(output.status.success(), "{request}: {output:?} {}", errors());
        ask();
    }
    Pid(i32::try_from(master.0.id()).unwrap()).signal(Signal::SIGTERM);
    assert!(master.0.wait().unwrap().success());
    assert!(!errors().contains("ERROR"), "{}", errors());
}

#[test]
fn workers_close_what_is_not_theirs_without_close_range() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let numbers = |relay: &Relay| {
        let fds = relay.worker_pids()[0].fds();
        fds.into_iter().map(|(number, _)| number).collect::<Vec<_>>()
    };
    let expected = numbers(&Relay::start());
    for error in ["error=ENOSYS", "error=EPERM"] {
        let fault = Fault { calls: "close_range", effect: error, when: "1+" };
        let mut command = fault.command(&trace);
        command.arg(BINARY);
        let relay = Relay::run(command, 1, &[], None);
        relay.session().transfer(&Payload::new(1, 1 << 20), Shape::Length);
        assert!(fs::read_to_string(&trace).unwrap().contains("(INJECTED)"), "it was not tried");
        // The worker closes the transfer's descriptors once its clients are gone.
        eventually(error, || (numbers(&relay) == expected).then_some(()));
        drop(relay);
    }
}

/// A control group with a memory limit, if this machine lets us make one; removed when this is dropped.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let name = format!("idontstore-test-{}", std::process::id());
        let places =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        places.into_iter().find_map(|(top, file)| {
            let group = Self(Path::new(top).join(&name));
            fs::create_dir(&group.0).ok()?;
            // If another version of control groups limits memory here, this file is missing, and cannot be created.
            fs::write(group.0.join(file), GROUP_BYTES.to_string()).ok().map(|()| group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn the_segment_is_a_share_of_the_control_groups_limit() {
    let Some(group) = Group::new() else { return };
    let script = "echo $$ >\"$0/cgroup.procs\" && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(&group.0).args([BINARY, "-T"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let dump = String::from_utf8(output.stdout).unwrap();
    let expected = format!("segment_bytes = \"{}MiB\"\n", (GROUP_BYTES / GROUP_SHARE) >> 20);
    assert!(dump.contains(&expected), "{expected} is missing in {dump}");
}
