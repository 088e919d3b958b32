//! Real curl, as a user types it. A running one is killed by pid when its handle goes, so that a failed test leaves
//! nothing behind.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::network::Machine;
use super::patience::eventually_within;
use super::proc::Pid;
use super::tls;

/// A curl command line being put together.
#[derive(Debug)]
pub(crate) struct Curl(Command);

/// A curl that runs.
#[derive(Debug)]
pub(crate) struct RunningCurl {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

/// The result of curl: its exit code (-1: killed by a signal) and what it wrote.
#[derive(Debug)]
pub(crate) struct CurlOutcome {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Curl {
    /// curl with `arguments` separated by blanks; nobody's `.curlrc` and no proxy.
    pub(crate) fn new(arguments: &str) -> Self {
        Self::with(Command::new("curl"), arguments)
    }

    /// The same on a machine of the test's own.
    pub(crate) fn on(machine: &Machine, arguments: &str) -> Self {
        Self::with(machine.command("curl"), arguments)
    }

    /// The same by a command that becomes curl.
    pub(crate) fn with(mut command: Command, arguments: &str) -> Self {
        command.args(["-q", "--noproxy", "*"]).args(arguments.split_whitespace());
        if let Some(certificate) = tls::trusted_by_curl() {
            command.env("CURL_CA_BUNDLE", certificate);
        }
        command.stdin(Stdio::null());
        Self(command)
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub(crate) fn args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn within(mut self, directory: &Path) -> Self {
        self.0.current_dir(directory);
        self
    }

    /// Gives curl this on stdin; without it, curl reads nothing.
    pub(crate) fn stdin(mut self, input: impl Into<Stdio>) -> Self {
        self.0.stdin(input);
        self
    }

    pub(crate) fn start(mut self) -> RunningCurl {
        let command = self.0.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("curl must be installed");
        let stdout = Some(gather(child.stdout.take().unwrap()));
        let stderr = Some(gather(child.stderr.take().unwrap()));
        RunningCurl { child, stdout, stderr }
    }

    pub(crate) fn run(self) -> CurlOutcome {
        self.start().finish()
    }
}

fn gather(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).expect("curl's output");
        all
    })
}

impl RunningCurl {
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end, two minutes at most.
    #[track_caller]
    pub(crate) fn finish(self) -> CurlOutcome {
        self.finish_within(Duration::from_secs(120))
    }

    #[track_caller]
    pub(crate) fn finish_within(mut self, limit: Duration) -> CurlOutcome {
        let status = eventually_within(limit, "curl ends", || self.child.try_wait().unwrap());
        let text =
            |handle: &mut Option<JoinHandle<Vec<u8>>>| handle.take().unwrap().join().unwrap();
        CurlOutcome {
            code: status.code().unwrap_or(-1),
            stdout: text(&mut self.stdout),
            stderr: String::from_utf8_lossy(&text(&mut self.stderr)).into_owned(),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        Pid(i32::try_from(self.child.id()).unwrap()).signal(signal);
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for RunningCurl {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl CurlOutcome {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on curl's stdout")
    }

    /// Panics unless curl left with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "stderr: {}\nstdout: {}",
            self.stderr,
            String::from_utf8_lossy(&self.stdout)
        );
        self
    }
}
