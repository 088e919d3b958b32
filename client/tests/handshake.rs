//! The handshake with another implementation: PyPI's `spake2`, which came with Magic Wormhole.
#![allow(clippy::unwrap_used)]

use client::pake::{Handshake, Side};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where `scripts/test` puts Python's modules.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python/bin/python3");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/handshake.py");

fn has_spake2() -> bool {
    let import = ["-c", "import spake2"];
    let is_there = Path::new(PYTHON).exists()
        && Command::new(PYTHON).args(import).status().is_ok_and(|it| it.success());
    let required = std::env::var("REQUIRE").unwrap_or_default();
    let is_required = required.split_whitespace().any(|it| it == "wormhole");
    assert!(is_there || !is_required, "REQUIRE names wormhole, and there is no spake2");
    if !is_there {
        eprintln!("skipped: {PYTHON} has no spake2");
    }
    is_there
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.trim().chars().map(|it| it.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// Makes a handshake with Python. Returns whether each side believes the other's proof.
fn shake(side: Side, ours: &str, theirs: &str) -> [bool; 2] {
    let role = if side == Side::Sender { "receiver" } else { "sender" };
    let mut python = Command::new(PYTHON)
        .args([SCRIPT, role, theirs])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(python.stdout.take().unwrap()).lines();
    let mut say = python.stdin.take().unwrap();
    let mut hear = || said.next().unwrap().unwrap();
    let (handshake, message) = Handshake::start(side, ours);
    let agreed = handshake.finish(&unhex(&hear())).unwrap();
    writeln!(say, "{}", hex(&message)).unwrap();
    let proof = unhex(&hear());
    writeln!(say, "{}", hex(&agreed.proof())).unwrap();
    let is_believed = hear() == "True";
    python.wait().unwrap();
    [agreed.check(&proof).is_ok(), is_believed]
}

#[test]
fn another_implementation_agrees_on_both_sides_and_sees_a_wrong_code() {
    if !has_spake2() {
        return;
    }
    for side in [Side::Sender, Side::Receiver] {
        assert_eq!(shake(side, "guitar-lemon", "guitar-lemon"), [true; 2], "{side:?}");
        assert_eq!(shake(side, "guitar-lemon", "guitar-melon"), [false; 2], "{side:?}");
    }
}
