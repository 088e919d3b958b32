//! The files of a certificate and a key as people have them. The message about a bad file helps, at the test, the start,
//! a reload and an upgrade alike, and never shows any of its content.
//!
//! The keys in `pem/` are used by these tests alone. The keys are fixed, since the tests look for short pieces of them,
//! and a piece of a key that is drawn anew each time would equal an ordinary word some day.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use data_encoding::{BASE64, HEXLOWER};
use nix::sys::stat::Mode;
use tempfile::TempDir;

use crate::harness::{BINARY, Relay, eventually};

pub(super) const RSA: &str = include_str!("pem/rsa.pkcs8.key");
const RSA_PKCS1: &str = include_str!("pem/rsa.pkcs1.key");
const RSA_ENCRYPTED: &str = include_str!("pem/rsa.encrypted.key");
const RSA_LEGACY_ENCRYPTED: &str = include_str!("pem/rsa.legacy-encrypted.key");
pub(super) const RSA_CERTIFICATE: &str = include_str!("pem/rsa.crt");
const RSA_REQUEST: &str = include_str!("pem/rsa.csr");
const RSA_PUBLIC: &str = include_str!("pem/rsa.pub");
const EC: &str = include_str!("pem/ec.pkcs8.key");
const EC_SEC1: &str = include_str!("pem/ec.sec1.key");
const EC_CERTIFICATE: &str = include_str!("pem/ec.crt");

/// No piece of a file of this length may show.
const PIECE_BYTES: usize = 8;
/// No piece of base64 of this length may.
const BASE64_PIECE_BYTES: usize = 5;

/// The tests look for pieces of so much of a file.
const CHECKED_BYTES_MAX: usize = 8 << 10;

/// The message for a file that is good.
pub(super) const GOOD: &str = "";

/// A configuration whose one listener has these two files.
pub(super) struct Files {
    directory: TempDir,
}

impl Files {
    pub(super) fn new(certificate: &[u8], key: &[u8]) -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(files.path("certificate.pem"), certificate).unwrap();
        fs::write(files.path("key.pem"), key).unwrap();
        let text = "control_socket = 'none'\n[[listener]]\naddress = '127.0.0.1:0'\n\
                    tls = { certificate = 'certificate.pem', key = 'key.pem' }\n";
        fs::write(files.path("test.toml"), text).unwrap();
        files
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the program; returns its exit code and all its output.
    pub(super) fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = File::create(self.path("said")).unwrap();
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("-c").arg(self.path("test.toml")).stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let mut running = command.spawn().unwrap();
        let code = eventually("it ends", || running.try_wait().unwrap()).code().unwrap();
        (code, fs::read_to_string(self.path("said")).unwrap())
    }

    /// Runs `-t`.
    pub(super) fn test(&self) -> (i32, String) {
        self.run(&["-t"])
    }
}

/// Panics unless `-t` prints this message about the two files, and nothing of their content.
#[track_caller]
pub(super) fn expect_said(certificate: &[u8], key: &[u8], what: &str) {
    let (code, said) = Files::new(certificate, key).test();
    assert_eq!(code, if what == GOOD { 0 } else { 78 }, "{said}");
    assert!(said.contains(what), "{what}:\n{said}");
    expect_nothing_of(certificate, &said);
    expect_nothing_of(key, &said);
}

/// Returns a file without its markers and white space.
fn body(file: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(file);
    let Some((_, sections)) = text.split_once("-----") else { return file.to_vec() };
    let parts = sections.split("-----").filter(|it| !it.contains("BEGIN ") && !it.contains("END "));
    parts.flat_map(str::bytes).filter(|byte| !byte.is_ascii_whitespace()).collect()
}

/// Panics if the messages show a piece of the file, as it is or as numbers.
#[track_caller]
fn expect_nothing_of(file: &[u8], said: &str) {
    let mut body = body(file);
    body.truncate(CHECKED_BYTES_MAX);
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let bytes = if body.iter().all(is_base64) { BASE64_PIECE_BYTES } else { PIECE_BYTES };
    let said = said.as_bytes();
    let dense: Vec<_> = said.iter().copied().filter(|it| !it.is_ascii_whitespace()).collect();
    let shown: HashSet<_> = said.windows(bytes).chain(dense.windows(bytes)).collect();
    let decoded = BASE64.decode(&body).unwrap_or_default();
    let pieces = body.windows(bytes).chain(decoded.windows(PIECE_BYTES));
    for piece in pieces {
        assert!(!shown.contains(piece), "{:?} is in:\n{}", piece, String::from_utf8_lossy(said));
    }
    let said = String::from_utf8_lossy(said);
    // A list of numbers, decimal or hexadecimal, shows a file if it holds one of the file's pieces, taken end to end.
    for piece in body.chunks(PIECE_BYTES).chain(decoded.chunks(PIECE_BYTES)) {
        let numbers = format!("{piece:?}");
        let numbers = numbers.trim_matches(['[', ']']);
        assert!(piece.len() < 4 || !said.contains(numbers), "{numbers} is in:\n{said}");
        let hex = HEXLOWER.encode(piece);
        assert!(piece.len() < 4 || !said.to_lowercase().contains(&hex), "{hex} is in:\n{said}");
    }
}

pub(super) fn without_breaks(text: &str) -> String {
    text.replace('\n', "")
}

fn der(text: &str) -> Vec<u8> {
    BASE64.decode(&body(text.as_bytes())).unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

fn relabelled(text: &str, from: &str, to: &str) -> String {
    text.replace(&format!(" {from}-----"), &format!(" {to}-----"))
}

/// The half of a text, ended as if it were whole.
fn cut_within(text: &str) -> String {
    let end = text.rfind("-----END").unwrap();
    format!("{}\n{}", &text[..end / 2 - 1], &text[end..])
}

/// Bytes of no sense, the same each time.
fn junk() -> Vec<u8> {
    let next = |state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let states = std::iter::successors(Some(7_u32), next).take(4096);
    states.map(|state| state.to_be_bytes()[0]).collect()
}

/// Files that may stand where a private key belongs, and the message for each.
fn keys() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = |name, text: &str, what| (name, text.as_bytes().to_vec(), what);
    let no_end = "no END marker of its own";
    let damaged = "its base64 is damaged";
    let marker = "damaged BEGIN or END marker";
    let none = "the file has no private key";
    let passphrase = "write it without a passphrase";
    vec![
        text("PKCS #8", RSA, GOOD),
        text("PKCS #1", RSA_PKCS1, GOOD),
        text("CRLF", &RSA.replace('\n', "\r\n"), GOOD),
        text("CR", &RSA.replace('\n', "\r"), GOOD),
        text("a byte order mark", &format!("\u{feff}{RSA}"), GOOD),
        text("one line", &without_breaks(RSA), GOOD),
        text("one line of PKCS #1", &without_breaks(RSA_PKCS1), GOOD),
        text("joined", &format!("{RSA_CERTIFICATE}{RSA}"), GOOD),
        text("joined in one line", &without_breaks(&format!("{RSA_CERTIFICATE}{RSA}")), GOOD),
        text("another's", EC, "does not belong to the first certificate"),
        text("another's, SEC 1", EC_SEC1, "does not belong to the first certificate"),
        text(
            "another's, SEC 1, in one line",
            &without_breaks(EC_SEC1),
            "does not belong to the first",
        ),
        text("encrypted", RSA_ENCRYPTED, passphrase),
        text("encrypted, in one line", &without_breaks(RSA_ENCRYPTED), passphrase),
        text("encrypted as once", RSA_LEGACY_ENCRYPTED, passphrase),
        text("encrypted as once, in one line", &without_breaks(RSA_LEGACY_ENCRYPTED), passphrase),
        text(
            "PKCS #1 called PKCS #8",
            &relabelled(RSA_PKCS1, "RSA PRIVATE KEY", "PRIVATE KEY"),
            "a damaged key",
        ),
        text("PKCS #8 called SEC 1", &relabelled(RSA, "PRIVATE KEY", "EC PRIVATE KEY"), "damaged"),
        text("called a certificate", &relabelled(RSA, "PRIVATE KEY", "CERTIFICATE"), none),
        text("called otherwise", &relabelled(RSA, "PRIVATE KEY", "SECRET"), none),
        text(
            "called by a long name",
            &relabelled(RSA, "PRIVATE KEY", &"LONG ".repeat(200)),
            marker,
        ),
        text("small letters", &RSA.replace("PRIVATE", "private"), marker),
        text("four dashes at its begin", &RSA.replacen("-----BEGIN", "----BEGIN", 1), marker),
        text("four dashes behind its begin", &RSA.replacen("KEY-----", "KEY----", 1), marker),
        text("a begin that goes on", &RSA.replacen("KEY-----\n", "KEY", 1), marker),
        text("no begin", RSA.split_once('\n').unwrap().1, marker),
        text("no markers", std::str::from_utf8(&body(RSA.as_bytes())).unwrap(), none),
        text("no end", RSA.split_once("-----END").unwrap().0, no_end),
        text("another end", &RSA.replace("-----END PRIVATE KEY", "-----END CERTIFICATE"), no_end),
        text("cut", &RSA[..RSA.len() / 2], no_end),
        text("cut in one line", &without_breaks(RSA)[..RSA.len() / 2], no_end),
        text("cut within", &cut_within(RSA), "damaged"),
        text("a letter lost", &RSA.replacen("MII", "MI", 1), damaged),
        text("not base64", &RSA.replacen("MII", "M(I", 1), damaged),
        text("a NUL within", &RSA.replacen("MII", "MII\0", 1), damaged),
        text("fields", &RSA.replacen("MII", "Comment: x\n\nMII", 1), "header fields"),
        text("a certificate", RSA_CERTIFICATE, "but a certificate"),
        text("a public key", RSA_PUBLIC, "but a public key"),
        text("a request", RSA_REQUEST, "but a certificate request"),
        text("nothing", "", none),
        text(
            "an empty section",
            "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
            "a damaged key",
        ),
        ("DER", der(RSA), "but DER"),
        ("DER of PKCS #1", der(RSA_PKCS1), "but DER"),
        ("UTF-16", utf16(RSA), "UTF-16"),
        ("junk", junk(), none),
        ("NULs", vec![0; 5000], none),
        ("a key behind junk", [&junk(), RSA.as_bytes()].concat(), GOOD),
        ("huge", [RSA.as_bytes(), &vec![b'\n'; 1 << 20]].concat(), "more than 1048576 bytes"),
        ("a huge line", vec![b'M'; 3 << 20], "more than 1048576 bytes"),
    ]
}

/// The same where a certificate belongs.
fn certificates() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = |name, text: &str, what| (name, text.as_bytes().to_vec(), what);
    let none = "the file has no certificate";
    let trusted = relabelled(RSA_CERTIFICATE, "CERTIFICATE", "TRUSTED CERTIFICATE");
    vec![
        text("itself", RSA_CERTIFICATE, GOOD),
        text("one line", &without_breaks(RSA_CERTIFICATE), GOOD),
        text("its old name", &relabelled(RSA_CERTIFICATE, "CERTIFICATE", "X509 CERTIFICATE"), GOOD),
        text("joined", &format!("{RSA}{RSA_CERTIFICATE}"), GOOD),
        text("joined in one line", &without_breaks(&format!("{RSA}{RSA_CERTIFICATE}")), GOOD),
        text("the key", RSA, "but a private key"),
        text("the key in one line", &without_breaks(RSA), "but a private key"),
        text("the key, cut", &RSA[..RSA.len() / 2], "no END marker"),
        text(
            "the key called a certificate",
            &relabelled(RSA, "PRIVATE KEY", "CERTIFICATE"),
            "certificate 1 is malformed",
        ),
        text(
            "the key with a damaged marker",
            &RSA.replace("-----BEGIN", "----BEGIN"),
            "damaged BEGIN",
        ),
        text("an encrypted key", RSA_ENCRYPTED, "but a private key"),
        text("with trust", &trusted, "TRUSTED CERTIFICATE"),
        text("a request", RSA_REQUEST, "but a certificate request"),
        text("a letter lost", &RSA_CERTIFICATE.replacen("MII", "MI", 1), "its base64 is damaged"),
        text("cut within", &cut_within(RSA_CERTIFICATE), "malformed"),
        text("another's", EC_CERTIFICATE, "does not belong to the first certificate"),
        text("nothing", "", none),
        ("DER", der(RSA_CERTIFICATE), "but DER"),
        ("DER of the key", der(RSA), "but DER"),
        ("UTF-16", utf16(RSA_CERTIFICATE), "UTF-16"),
        ("junk", junk(), none),
    ]
}

/// Every pair of files with a bad one, and the message for it.
fn pairs() -> Vec<(&'static str, [Vec<u8>; 2], &'static str)> {
    let keys = keys().into_iter();
    let keys = keys.map(|(name, key, what)| (name, [RSA_CERTIFICATE.into(), key], what));
    let certificates = certificates().into_iter();
    let certificates = certificates.map(|(name, it, what)| (name, [it, RSA.into()], what));
    keys.chain(certificates).collect()
}

#[test]
fn a_test_says_what_is_wrong_and_nothing_of_the_content() {
    for (name, [certificate, key], what) in pairs() {
        eprintln!("{name}");
        expect_said(&certificate, &key, what);
    }
    expect_said(EC_CERTIFICATE.as_bytes(), EC_SEC1.as_bytes(), GOOD);
    expect_said(EC_CERTIFICATE.as_bytes(), without_breaks(EC_SEC1).as_bytes(), GOOD);
}

#[test]
fn a_start_says_nothing_of_the_content() {
    for (name, [certificate, key], what) in pairs().into_iter().filter(|it| it.2 != GOOD) {
        eprintln!("{name}");
        let (code, said) = Files::new(&certificate, &key).run(&[]);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(what), "{what}:\n{said}");
        expect_nothing_of(&certificate, &said);
        expect_nothing_of(&key, &said);
    }
}

/// Puts these files in place and makes the request, which must fail; returns the relay's answer and its new log lines.
fn asked(relay: &Relay, request: &str, [certificate, key]: &[Vec<u8>; 2]) -> String {
    fs::write(relay.path("certificate.pem"), certificate).unwrap();
    fs::write(relay.path("key.pem"), key).unwrap();
    let before = relay.errors().len();
    let output = relay.request(request).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).unwrap() + &relay.errors()[before..]
}

/// Checks every `one_in`th pair of files: each takes long.
fn expect_quiet_relay(request: &str, lines: &[&str], one_in: usize) {
    let relay = Relay::https(1, &[&["log.level = \"trace\""], lines].concat());
    for (name, files, what) in pairs().into_iter().filter(|it| it.2 != GOOD).step_by(one_in) {
        eprintln!("{name}");
        let said = asked(&relay, request, &files);
        assert!(said.contains(what), "{what}:\n{said}");
        files.iter().for_each(|file| expect_nothing_of(file, &said));
    }
}

#[test]
fn a_reload_says_nothing_of_the_content() {
    expect_quiet_relay("reload", &[], 1);
}

#[test]
fn an_upgrade_says_nothing_of_the_content() {
    expect_quiet_relay("upgrade", &["log.format = \"json\""], 5);
}

#[test]
fn a_key_in_the_configurations_place_is_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let in_place_of_its_name = "[[listener]]\naddress = '127.0.0.1:0'\n\
                                tls = { certificate = 'x', key = '''KEY''' }\n";
    for key in [RSA, &without_breaks(RSA), EC_SEC1, RSA_PKCS1, &RSA[..RSA.len() / 2]] {
        for text in [key, &in_place_of_its_name.replace("KEY", key)] {
            let path = directory.path().join("key.pem");
            fs::write(&path, text).unwrap();
            for what in ["-t", "-T"] {
                let done = Command::new(BINARY).args([what, "-c"]).arg(&path).output().unwrap();
                assert_eq!(done.status.code(), Some(78), "{done:?}");
                let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
                assert!(said.contains("key.pem:"), "{said}");
                expect_nothing_of(key.as_bytes(), &said);
            }
        }
    }
}

#[test]
fn what_is_no_file_neither_hangs_nor_grows() {
    let files = Files::new(RSA_CERTIFICATE.as_bytes(), RSA.as_bytes());
    let [fifo, huge] = ["fifo", "huge"].map(|name| files.path(name));
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    // A sparse file is as large as a disk, and as fast to make as an empty one.
    File::create(&huge).unwrap().write_all_at(RSA.as_bytes(), 1 << 40).unwrap();
    for place in ["certificate.pem", "key.pem"] {
        for (path, what) in [
            (Path::new("/dev/zero"), "it is a device"),
            (Path::new("/dev/null"), "it is a device"),
            (&fifo, "it is a pipe"),
            (files.directory.path(), "it is a directory"),
            (&huge, "more than 1048576 bytes"),
            (Path::new("/nonexistent"), "No such file"),
        ] {
            let kept = fs::read(files.path(place)).unwrap();
            fs::remove_file(files.path(place)).unwrap();
            std::os::unix::fs::symlink(path, files.path(place)).unwrap();
            let (code, said) = files.test();
            assert_eq!(code, 78, "{said}");
            assert!(said.contains(what), "{said}");
            fs::remove_file(files.path(place)).unwrap();
            fs::write(files.path(place), kept).unwrap();
        }
    }
    assert_eq!(files.test().0, 0);
}

#[test]
fn a_configuration_that_never_ends_is_refused() {
    let done = Command::new(BINARY).args(["-t", "-c", "/dev/zero"]).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(78), "{said}");
    assert!(said.contains("more than 1048576 bytes"), "{said}");
    // A configuration from a pipe is taken: a user means it.
    let mut piped = Command::new("sh");
    piped.args(["-c", "echo 'workers = 1' | \"$0\" -t -c /dev/stdin", BINARY]);
    assert!(piped.status().unwrap().success());
}

#[test]
fn a_reload_does_not_wait_for_a_pipe() {
    let relay = Relay::start();
    fs::remove_file(relay.config_path()).unwrap();
    nix::unistd::mkfifo(&relay.config_path(), Mode::S_IRWXU).unwrap();
    relay.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("it is refused", || relay.errors().contains("it is a pipe").then_some(()));
    relay.connect().get("/").read_response().expect(200);
}
