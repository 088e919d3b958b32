//! How a transfer ends that does not succeed: both sides say so with their exit code, and no file stands under its name.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use client::pake::{Handshake, MESSAGE_BYTES, PROOF_BYTES, Side};
use nix::sys::signal::Signal;
use protocols::over_http;

use super::{Sends, names, receive, receives};
use crate::harness::{Payload, Relay, eventually};

/// A relay with an empty folder, and a big file.
fn stage(lines: &[&str]) -> (Relay, std::path::PathBuf, std::path::PathBuf) {
    let relay = Relay::with(2, lines);
    let (file, to) = (relay.path("big"), relay.path("to"));
    Payload::new(7, 200 << 20).write_file(&file);
    fs::create_dir(&to).unwrap();
    (relay, file, to)
}

/// Waits until some of the file has come.
fn until_begun(to: &std::path::Path) {
    eventually("some has come", || {
        fs::metadata(to.join(".big.part")).ok().filter(|it| it.len() > 0)
    });
}

#[over_http("the client speaks bare TCP")]
fn a_wrong_code_is_told_to_both_and_burns_the_right_one() {
    let relay = Relay::with(2, &[]);
    fs::write(relay.path("note"), "secret").unwrap();
    let to = relay.path("to");
    fs::create_dir(&to).unwrap();
    let sends = Sends::file(&relay, &relay.path("note"));
    let (key, _) = sends.code.rsplit_once('-').unwrap().0.rsplit_once('-').unwrap();
    let (right, wrong) = (sends.code.clone(), format!("{key}-zoo-zoo"));
    for (exit, _, err) in [receive(&relay, &wrong, &to), sends.end()] {
        assert!(exit == 3 && err.contains("wrong code"), "{exit}: {err}");
    }
    let (exit, _, err) = receive(&relay, &right, &to);
    assert!(exit == 1 && err.contains("the relay refuses"), "{exit}: {err}");
    assert_eq!(names(&to), [""; 0]);
}

#[over_http("the client speaks bare TCP")]
fn a_sender_that_is_killed_leaves_no_file() {
    let (relay, file, to) = stage(&["limits.rate_bytes_max = \"20MiB\""]);
    let mut sends = Sends::file(&relay, &file);
    let receiver = receives(&relay, &sends.code, &to).spawn().unwrap();
    until_begun(&to);
    sends.kill();
    let (exit, _, err) = super::ended(receiver.wait_with_output().unwrap());
    assert!(exit == 1 && err.contains("the other side left"), "{exit}: {err}");
    assert_eq!(names(&to), [""; 0]);
}

#[over_http("the client speaks bare TCP")]
fn a_receiver_that_is_killed_is_no_success_for_the_sender() {
    let (relay, file, to) = stage(&["limits.rate_bytes_max = \"20MiB\""]);
    let sends = Sends::file(&relay, &file);
    let mut receiver = receives(&relay, &sends.code, &to).spawn().unwrap();
    until_begun(&to);
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    let (exit, _, err) = sends.end();
    assert!(exit == 1 && err.contains("the other side left"), "{exit}: {err}");
    assert_eq!(names(&to), [".big.part"]);
    // The next one begins anew what the killed one left.
    fs::write(&file, "small").unwrap();
    let sends = Sends::file(&relay, &file);
    let (exit, _, err) = receive(&relay, &sends.code, &to);
    assert_eq!((exit, sends.end().0), (0, 0), "{err}");
    assert_eq!(names(&to), ["big"]);
    assert_eq!(fs::read_to_string(to.join("big")).unwrap(), "small");
}

#[over_http("the client speaks bare TCP")]
fn a_worker_that_is_killed_is_no_success_for_either() {
    let (relay, file, to) = stage(&["limits.rate_bytes_max = \"20MiB\""]);
    let sends = Sends::file(&relay, &file);
    let receiver = receives(&relay, &sends.code, &to).spawn().unwrap();
    until_begun(&to);
    relay.worker_pids().into_iter().for_each(|it| it.signal(Signal::SIGKILL));
    for (exit, _, err) in [super::ended(receiver.wait_with_output().unwrap()), sends.end()] {
        assert_eq!(exit, 1, "{err}");
    }
    assert_eq!(names(&to), [""; 0]);
}

#[over_http("the client speaks bare TCP")]
fn a_file_that_changes_is_not_confirmed() {
    let (relay, file, to) = stage(&["limits.rate_bytes_max = \"100MiB\""]);
    let sends = Sends::file(&relay, &file);
    let receiver = receives(&relay, &sends.code, &to).spawn().unwrap();
    until_begun(&to);
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"more").unwrap();
    let (exit, _, err) = super::ended(receiver.wait_with_output().unwrap());
    assert_eq!(exit, 1, "{err}");
    let (exit, _, err) = sends.end();
    assert_eq!(exit, 1, "{err}");
    assert!(err.contains("longer than offered") || err.contains("changed while"), "{err}");
    assert_eq!(names(&to), [""; 0]);
}

#[over_http("the client speaks bare TCP")]
fn a_full_disk_is_told_to_the_sender() {
    let (relay, file, _) = stage(&[]);
    let sends = Sends::file(&relay, &file);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let receiver = receives(&relay, &sends.code, "-").stdout(Stdio::from(full)).output().unwrap();
    let (exit, _, err) = super::ended(receiver);
    assert!(exit == 1 && err.contains("No space left"), "{exit}: {err}");
    let (exit, _, err) = sends.end();
    assert!(exit == 1 && err.contains("the other side failed: No space left"), "{exit}: {err}");
}

#[over_http("the client speaks bare TCP")]
fn two_receivers_of_one_name_do_not_mix() {
    let (relay, file, to) = stage(&["limits.rate_bytes_max = \"20MiB\""]);
    let sends = Sends::file(&relay, &file);
    let mut receiver = receives(&relay, &sends.code, &to).spawn().unwrap();
    until_begun(&to);
    let second = Sends::file(&relay, &file);
    let (exit, _, err) = receive(&relay, &second.code, &to);
    assert!(exit == 1 && err.contains("another receiver writes this file"), "{exit}: {err}");
    assert_eq!(second.end().0, 4);
    receiver.kill().unwrap();
    receiver.wait().unwrap();
}

/// A disk is full while the sender is silent: both are told at once, and not with the next byte.
#[over_http("the client speaks bare TCP")]
fn a_failed_write_is_told_to_a_silent_sender() {
    let relay = Relay::with(2, &[]);
    let (source, mut held) = std::io::pipe().unwrap();
    let sends = Sends::start(&relay, "-", Stdio::from(source));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let receiver = receives(&relay, &sends.code, "-").stdout(Stdio::from(full)).spawn().unwrap();
    held.write_all(&[7; 200_000]).unwrap();
    let (exit, _, err) = super::ended(receiver.wait_with_output().unwrap());
    assert!(exit == 1 && err.contains("No space left"), "{exit}: {err}");
    let (exit, _, err) = sends.end();
    assert!(exit == 1 && err.contains("the other side failed: No space left"), "{exit}: {err}");
    drop(held);
}

/// A sender waits on an empty pipe for its source: it ends all the same once its receiver is gone.
#[over_http("the client speaks bare TCP")]
fn a_sender_whose_source_is_silent_sees_that_its_receiver_left() {
    let relay = Relay::with(2, &[]);
    let (source, mut held) = std::io::pipe().unwrap();
    let sends = Sends::start(&relay, "-", Stdio::from(source));
    let mut receiver = receives(&relay, &sends.code, "-").spawn().unwrap();
    held.write_all(&[7; 200_000]).unwrap();
    let mut some = [0; 65_536];
    receiver.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    let (exit, _, err) = sends.end();
    assert!(exit == 1 && err.contains("the other side left"), "{exit}: {err}");
    drop(held);
}

/// Joins the sender, as its receiver would.
fn join(relay: &Relay, sends: &Sends) -> std::net::TcpStream {
    let key = sends.code.rsplitn(3, '-').last().unwrap();
    let mut stranger = std::net::TcpStream::connect(relay.address()).unwrap();
    let length = u32::try_from(key.len()).unwrap().to_be_bytes();
    stranger.write_all(&[&[2][..], &length, key.as_bytes()].concat()).unwrap();
    let mut paired = [0; 5];
    stranger.read_exact(&mut paired).unwrap();
    assert_eq!(paired, *b"\x83\0\0\0\0");
    stranger
}

/// A stranger tests a guess by the sender's proof. It gets that only for a proof of its own, and then the sender is told.
#[over_http("the client speaks bare TCP")]
fn a_guess_that_is_tested_is_seen() {
    let relay = Relay::with(2, &[]);
    fs::write(relay.path("note"), "secret").unwrap();
    for shows_proof in [false, true] {
        let sends = Sends::file(&relay, &relay.path("note"));
        let mut stranger = join(&relay, &sends);
        let (handshake, ours) = Handshake::start(Side::Receiver, "zoo-zoo");
        stranger.write_all(&ours).unwrap();
        let mut theirs = [0; MESSAGE_BYTES];
        stranger.read_exact(&mut theirs).unwrap();
        if shows_proof {
            stranger.write_all(&handshake.finish(&theirs).unwrap().proof()).unwrap();
        } else {
            stranger.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let (exit, _, err) = sends.end();
        assert_eq!(exit, if shows_proof { 3 } else { 1 }, "{err}");
        let mut heard = Vec::new();
        let _ = stranger.read_to_end(&mut heard);
        assert_eq!(heard.len(), if shows_proof { PROOF_BYTES } else { 0 });
    }
}

/// A stranger in the sender's place takes the receiver's proof, and leaves: it may have tested a guess.
#[over_http("the client speaks bare TCP")]
fn a_receiver_that_gets_no_proof_takes_its_code_for_used_up() {
    let relay = Relay::with(2, &[]);
    let mut stranger = std::net::TcpStream::connect(relay.address()).unwrap();
    stranger.write_all(&[1, 0, 0, 0, 0]).unwrap();
    // The header, the lifetime and the key.
    let mut code = [0; 5 + 4 + 28];
    stranger.read_exact(&mut code).unwrap();
    let code = format!("{}-guitar-lemon", std::str::from_utf8(&code[9..]).unwrap());
    let receiver = receives(&relay, &code, relay.directory()).spawn().unwrap();
    let mut paired = [0; 5];
    stranger.read_exact(&mut paired).unwrap();
    stranger.write_all(&Handshake::start(Side::Sender, "zoo-zoo").1).unwrap();
    stranger.read_exact(&mut [0; MESSAGE_BYTES + PROOF_BYTES]).unwrap();
    stranger.shutdown(std::net::Shutdown::Write).unwrap();
    let (exit, _, err) = super::ended(receiver.wait_with_output().unwrap());
    assert!(exit == 3 && err.contains("wrong code: it is used up now"), "{exit}: {err}");
}

#[over_http("the client speaks bare TCP")]
fn a_stranger_in_the_pair_gets_nothing() {
    let relay = Relay::with(2, &[]);
    fs::write(relay.path("note"), "secret").unwrap();
    for says in
        [&b""[..], &[0; 65], b"GET / HTTP/1.1\r\n\r\n and whatever else may be said here, and more"]
    {
        let sends = Sends::file(&relay, &relay.path("note"));
        let mut stranger = join(&relay, &sends);
        stranger.write_all(says).unwrap();
        let _ = stranger.shutdown(std::net::Shutdown::Write);
        let (exit, out, err) = sends.end();
        assert!(exit != 0 && out.is_empty(), "{says:?}: {exit}: {err}");
        let mut heard = Vec::new();
        let _ = stranger.read_to_end(&mut heard);
        assert!(!String::from_utf8_lossy(&heard).contains("secret"));
    }
}
