//! `send` and `receive`: the program's own client, as people run it, through a relay over bare TCP.

mod contract;
mod ends;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::Relay;

/// The program under the name of one of its commands, as the storj exercise calls it.
fn link(directory: &Path, name: &str) -> Command {
    let link = directory.join(name);
    if !link.exists() {
        // Two threads of a test may make it at once.
        let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_idontstore"), &link);
    }
    let mut command = Command::new(link);
    command.env_remove("IDONTSTORE_RELAY").env_remove("IDONTSTORE_CODE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A sender that has printed its code. It ends with the test.
struct Sends {
    child: Option<Child>,
    code: String,
}

impl Sends {
    fn start(relay: &Relay, what: impl AsRef<OsStr>, stdin: Stdio) -> Self {
        let mut command = link(relay.directory(), "send");
        let command = command.arg(relay.address().to_string()).arg(what).stdin(stdin);
        let mut child = command.spawn().unwrap();
        let mut code = String::new();
        // Byte by byte, so that whatever else it prints is left for the end.
        let stdout = child.stdout.take().unwrap();
        let mut stdout = BufReader::with_capacity(1, stdout);
        stdout.read_line(&mut code).unwrap();
        child.stdout = Some(stdout.into_inner());
        Self { child: Some(child), code: code.trim_end_matches('\n').to_owned() }
    }

    fn file(relay: &Relay, path: &Path) -> Self {
        Self::start(relay, path, Stdio::null())
    }

    fn kill(&mut self) {
        let child = self.child.as_mut().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Its exit code, what it printed behind the code, and what it complained of.
    fn end(mut self) -> (i32, String, String) {
        ended(self.child.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Sends {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn receives(relay: &Relay, code: &str, place: impl AsRef<OsStr>) -> Command {
    let mut command = link(relay.directory(), "receive");
    command.arg(relay.address().to_string()).arg(code).arg(place);
    command
}

fn receive(relay: &Relay, code: &str, place: impl AsRef<OsStr>) -> (i32, String, String) {
    ended(receives(relay, code, place).output().unwrap())
}

fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// What is in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All that a reader has.
fn all(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}
