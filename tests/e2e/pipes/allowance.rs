//! The relay's part of a user's allowance of pipes: half of it at most, by default, and never root's if the workers run
//! as another user.
//!
//! Each test has users of its own, since the kernel counts by user: numbers that no other program has.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::fs;
use std::process::{Command, Stdio};

use crate::harness::{BINARY, Payload, Relay, Shape, needs, needs_root};
use crate::pipes::share::payload_pipes;

/// Makes as many pipes of 1 MiB as it is given, and prints how much an ordinary one holds and how many it has got. 1032 is
/// `F_GETPIPE_SZ`, 1031 `F_SETPIPE_SZ` (`linux/fcntl.h`).
const OTHER_PROGRAM: &str = "\
    pipe(my $first, my $into) or die; my ($made, @kept) = 0; my $bytes = fcntl($into, 1032, 0); \
    while ($made < 200) { \
        pipe(my $out, my $in) or last; push @kept, $out, $in; \
        fcntl($in, 1031, 1 << 20) or last; $made++; \
    } \
    print \"$bytes $made\\n\";";
/// Bytes that a pipe of the ordinary size holds.
const ORDINARY_BYTES: u64 = 64 << 10;
/// Pipes of 1 MiB that a user may have where `fs.pipe-user-pages-soft` is as the kernel has it.
const ALLOWANCE: usize = 64;

/// The harness asks for few pipes unless a test does.
const AUTO: &str = "memory.pipes = \"auto\"";

/// Returns what another program of `user` gets without privilege: bytes of a first pipe, and pipes of 1 MiB.
#[track_caller]
fn left_to(user: u32) -> (u64, usize) {
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let mut command = Command::new("setpriv");
    command.args([&uid, &gid, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    command.args(["perl", "-e", OTHER_PROGRAM]).stdin(Stdio::null());
    let output = command.output().expect("setpriv must be installed");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_whitespace().map(|it| it.parse::<usize>().unwrap());
    (numbers.next().unwrap() as u64, numbers.next().unwrap())
}

/// Returns whether root runs this test and the kernel's limit is the usual one. Only root can act as several users.
fn can_be_tried() -> bool {
    let soft = fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").unwrap_or_default();
    needs_root() && needs("pipe-limit", soft.trim() == "16384")
}

/// Starts the relay as `user`. That user gets the files that the relay needs, and a copy of the program, which may lie
/// where no other user has access.
fn run_by(user: u32, lines: &[&str]) -> Relay {
    const SCRIPT: &str = "for config; do :; done; directory=${config%/*}; shift; \
        cp \"$0\" \"$directory/relay\" && chown -R \"$USER_ID:$USER_ID\" \"$directory\" && \
        exec setpriv --reuid=\"$USER_ID\" --regid=\"$USER_ID\" --clear-groups --inh-caps=-all --bounding-set=-all \
        \"$directory/relay\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, BINARY, "relay"]).env("USER_ID", user.to_string());
    Relay::run(command, 1, lines, None)
}

#[test]
fn an_ordinary_user_keeps_half_of_its_pipes_for_other_programs() {
    const USER: u32 = 4_100_001;
    if !can_be_tried() {
        return;
    }
    // The ordinary pipe counts as one of them.
    assert_eq!(left_to(USER), (ORDINARY_BYTES, ALLOWANCE - 1));
    let relay = run_by(USER, &[AUTO]);
    assert_eq!(payload_pipes(relay.master()).len(), ALLOWANCE / 2);
    assert_eq!(left_to(USER), (ORDINARY_BYTES, ALLOWANCE / 2 - 1));
    // A second relay leaves others as much as it takes; a third takes nothing, since too little is left. The workers'
    // news pipes, a few small ones, count as well.
    let second = run_by(USER, &[AUTO]);
    let taken = payload_pipes(second.master()).len();
    assert!((ALLOWANCE / 4 - 1..=ALLOWANCE / 4).contains(&taken), "{taken}");
    let third = run_by(USER, &[AUTO]);
    assert_eq!(payload_pipes(third.master()).len(), 0);
    let (bytes, left) = left_to(USER);
    assert!(bytes == ORDINARY_BYTES && left >= ALLOWANCE / 4 - 1, "{bytes}, {left}");
    assert!(
        third.errors().contains("made fewer pipes than memory.pipes asks for"),
        "{}",
        third.errors()
    );
    third.session().transfer(&Payload::new(1, 4 << 20), Shape::Length);
    // A configured number of pipes is made as long as there are any.
    drop(third);
    let asked = run_by(USER, &["memory.pipes = 10"]);
    assert_eq!(payload_pipes(asked.master()).len(), 10);
}

#[test]
fn what_root_starts_takes_pipes_from_the_user_of_its_workers_and_not_from_root() {
    const USER: u32 = 4_100_002;
    let lines = &[AUTO, "user = \"4100002\""];
    if !can_be_tried() {
        return;
    }
    let relay = Relay::with(1, lines);
    let pipes = payload_pipes(relay.master());
    assert_eq!(pipes.len(), ALLOWANCE / 2);
    assert_eq!(left_to(USER), (ORDINARY_BYTES, ALLOWANCE / 2 - 1));
    let (ordinary, more) = left_to(0);
    assert!(
        ordinary == ORDINARY_BYTES && more > ALLOWANCE / 2,
        "{ordinary} bytes and {more} pipes"
    );
    // The pipes stay the same ones.
    relay.reload(1, lines);
    relay.upgrade(1, lines);
    assert_eq!(payload_pipes(relay.master()), pipes);
    for pid in relay.worker_pids() {
        assert!(payload_pipes(pid).keys().eq(pipes.keys()));
    }
    assert_eq!(left_to(USER), (ORDINARY_BYTES, ALLOWANCE / 2 - 1));
    relay.session().transfer(&Payload::new(2, 4 << 20), Shape::Length);
}

#[test]
fn what_root_asks_for_may_be_more_than_a_user_is_allowed() {
    const USER: u32 = 4_100_003;
    if !can_be_tried() {
        return;
    }
    let relay = Relay::with(1, &["memory.pipes = 100", "user = \"4100003\""]);
    assert_eq!(payload_pipes(relay.master()).len(), 100);
    assert_eq!(left_to(USER), (8 << 10, 0));
    let (ordinary, more) = left_to(0);
    assert!(
        ordinary == ORDINARY_BYTES && more > ALLOWANCE / 2,
        "{ordinary} bytes and {more} pipes"
    );
}
