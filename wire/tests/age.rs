//! Files pass between this crate and the tool `age`, in both directions.
//!
//! A test is skipped where the tool is not installed. Where `REQUIRE` names `age`, it fails instead.
#![allow(clippy::unwrap_used, clippy::disallowed_types, clippy::disallowed_methods)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use wire::age::{
    CHUNK_BYTES, FileKey, HEADER_BYTES, Header, HeaderFault, Identity, NONCE_BYTES, Opener,
    Recipient, SEALED_CHUNK_BYTES, Sealer, TAG_BYTES, file_bytes, plaintext_bytes,
};

/// Lengths around each border of a chunk.
const LENGTHS: [usize; 7] = [0, 1, 65_535, 65_536, 65_537, 131_072, 1_000_003];

/// Keys of other types, which this crate skips; nobody has their secrets.
const SSH: [&str; 2] = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII6z36M1DTbVwkWrpmQ0LTlUniDzGJ5czexeAqDrwiMN",
    concat!(
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCfaKr8UOXdfAuG5YX9om03Bl6iESt+JfHZ2MowEwgqUez8pSSj4b",
        "AyHctSWk+MwyC1lCydrFpWWXMlsuS4r/REQ16FzRvYl2TyfXx0Ro2JxfEUKwY9lKlFaQKyxiAKl5EbEH1Hk3na96ZC",
        "FdcqR0cGcKTwzGBb9FhprRMcnbNb+7HnNjuGSKHwp2YADc8e10lGc5d+TqllE4fbP1mhHsp2BLfX0MZu539BjrogXE",
        "upjJHA2mHceBllV93mOxCP7FNvXI4o/UUJ7YhJNTLuuI8lIkFcb5YvgTue8TY2YOc356b94XGC3jxW0GHIYCeg75Rp",
        "xkvsMyPvCeEwLEit1qWf",
    ),
];

/// Whether the tool is installed; if not, notes that this test is skipped, as `scripts/test` counts it.
#[track_caller]
fn has_tool() -> bool {
    let is_met = Command::new("age").arg("--version").output().is_ok_and(|it| it.status.success());
    if !is_met {
        let test = thread::current().name().unwrap_or_default().to_owned();
        eprintln!("skipped for want of age: {test}");
        if let Some(path) = std::env::var_os("SKIPPED") {
            let file = File::options().append(true).create(true).open(path);
            let line = format!("age: {test}\n");
            file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
        }
        let required = std::env::var("REQUIRE").unwrap_or_default();
        let is_required = required.split_whitespace().any(|it| it == "age");
        assert!(!is_required, "skipped for want of age, which REQUIRE names");
    }
    is_met
}

/// A file of this test that holds `bytes`. Each test has its own `name`.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Runs the tool on `path` and returns its output; `None` if it fails.
fn run<A: AsRef<OsStr>>(arguments: &[A], path: &PathBuf) -> Option<Vec<u8>> {
    let mut command = Command::new("age");
    command.args(arguments).stdin(File::open(path).unwrap()).stderr(Stdio::null());
    let output = command.output().unwrap();
    output.status.success().then_some(output.stdout)
}

fn plaintext(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

fn identity() -> Identity {
    Identity::new(&[1; 32]).unwrap()
}

fn sealed(recipient: &Recipient, plaintext: &[u8]) -> Vec<u8> {
    let (key, nonce) = (FileKey::new([7; 16]), [3; NONCE_BYTES]);
    let mut out = Header::write(recipient, &key, &[9; 32]).unwrap();
    assert_eq!(out.len(), HEADER_BYTES);
    out.extend_from_slice(&nonce);
    let mut sealer = Sealer::new(&key, &nonce).unwrap();
    let chunks = plaintext.len().div_ceil(CHUNK_BYTES).max(1);
    for index in 1..=chunks {
        let text = plaintext.chunks(CHUNK_BYTES).nth(index - 1).unwrap_or_default();
        let mut buffer = [text, &[0; TAG_BYTES]].concat();
        sealer.seal(&mut buffer, index == chunks).unwrap();
        out.extend_from_slice(&buffer);
    }
    out
}

fn opened(identity: &Identity, bytes: &[u8]) -> Result<Vec<u8>, HeaderFault> {
    let (header, taken) = Header::parse(bytes)?.unwrap();
    let key = header.open(identity)?;
    let payload = bytes.get(taken..).unwrap();
    let (nonce, sealed) = payload.split_first_chunk().unwrap();
    let mut opener = Opener::new(&key, nonce).unwrap();
    let mut out = vec![0; CHUNK_BYTES];
    let mut plaintext = Vec::new();
    for chunk in sealed.chunks(SEALED_CHUNK_BYTES) {
        plaintext.extend_from_slice(opener.open(chunk, &mut out).unwrap());
    }
    opener.finish().unwrap();
    assert_eq!(plaintext_bytes(payload.len() as u64), Some(plaintext.len() as u64));
    Ok(plaintext)
}

#[test]
fn the_tool_opens_our_files() {
    if !has_tool() {
        return;
    }
    let key = file("opens.key", identity().to_string().as_bytes());
    for bytes in LENGTHS {
        let text = plaintext(bytes);
        let ours = sealed(&identity().recipient(), &text);
        assert_eq!(Some(ours.len() as u64), file_bytes(bytes as u64));
        let path = file("opens.age", &ours);
        let found = run(&[OsStr::new("-d"), OsStr::new("-i"), key.as_os_str()], &path);
        assert!(found == Some(text), "{bytes} bytes");
    }
}

#[test]
fn the_tool_refuses_what_we_refuse() {
    if !has_tool() {
        return;
    }
    let key = file("refuses.key", identity().to_string().as_bytes());
    let whole = sealed(&identity().recipient(), &plaintext(65_537));
    let cut = whole.get(..HEADER_BYTES + NONCE_BYTES + SEALED_CHUNK_BYTES).unwrap();
    for bytes in [cut, &[&whole[..], b"more"].concat()] {
        let path = file("refuses.age", bytes);
        assert_eq!(run(&[OsStr::new("-d"), OsStr::new("-i"), key.as_os_str()], &path), None);
    }
}

#[test]
fn we_open_the_tools_files() {
    if !has_tool() {
        return;
    }
    let recipient = identity().recipient().to_string();
    for bytes in LENGTHS {
        let text = plaintext(bytes);
        let path = file("we_open.plain", &text);
        let theirs = run(&["-r", &recipient], &path).unwrap();
        assert_eq!(Some(theirs.len() as u64), file_bytes(bytes as u64));
        assert!(opened(&identity(), &theirs).as_ref() == Ok(&text), "{bytes} bytes");
    }
}

#[test]
fn each_of_several_recipients_opens_the_tools_file() {
    if !has_tool() {
        return;
    }
    let identities: Vec<_> = (1..=9).map(|byte| Identity::new(&[byte; 32]).unwrap()).collect();
    let recipients = identities.iter().map(|it| it.recipient().to_string());
    let all = SSH.iter().copied().map(str::to_owned).chain(recipients);
    let arguments: Vec<_> = all.flat_map(|it| ["-r".to_owned(), it]).collect();
    let path = file("several.plain", b"for many");
    let theirs = run(&arguments, &path).unwrap();
    for identity in &identities {
        assert_eq!(opened(identity, &theirs), Ok(b"for many".to_vec()));
    }
    let stranger = Identity::new(&[10; 32]).unwrap();
    assert_eq!(opened(&stranger, &theirs), Err(HeaderFault::NoMatch));
    let ssh_alone = run(&["-r", SSH[0]], &path).unwrap();
    assert_eq!(opened(&stranger, &ssh_alone), Err(HeaderFault::NoMatch));
    let armored = run(&["-a", "-r", &identity().recipient().to_string()], &path).unwrap();
    assert_eq!(Header::parse(&armored).unwrap_err(), HeaderFault::Version);
}

#[test]
fn the_tools_keys_are_ours() {
    if !has_tool() {
        return;
    }
    for _ in 0..8 {
        let output = Command::new("age-keygen").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (public, secret) = text
            .split_once("# public key: ")
            .and_then(|(_, rest)| rest.trim_end().split_once('\n'))
            .unwrap();
        let identity: Identity = secret.parse().unwrap();
        assert_eq!(identity.recipient().to_string(), public);
        assert_eq!(identity.to_string(), secret);
    }
}
