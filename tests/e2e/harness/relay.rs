//! The program under test: the real binary with a configuration of the test's own, on a port the kernel chose, ended
//! by pid whatever happens. Also the session that a test asks it for.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::config::{self, configure, listener_address};
use super::network::Machine;
use super::patience::{PATIENCE, eventually};
use super::proc::{Pid, Stopped};
use super::raw::Raw;
use super::segment::Segment;
use super::tls::{self, Certificate};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_idontstore");

/// The minimum rate holds whether others need the room or not.
pub(crate) const FIRM: &str = "limits.patience_connections_max = 0";

/// The first listener's address, unless the test opens that listener.
const ANY: &str = "127.0.0.1:0";
/// The program, which may not open descriptor `number` anew, as if another user's file were behind it.
pub(crate) fn shut_out(number: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("chmod 0 /proc/self/fd/{number} && exec \"$@\""), "sh"]);
    if nix::unistd::geteuid().is_root() {
        command.args(["setpriv", "--bounding-set=-dac_override,-dac_read_search"]);
    }
    command.arg(BINARY);
    command
}

/// A running master with its workers.
#[derive(Debug)]
pub(crate) struct Relay {
    master: Child,
    directory: TempDir,
    /// The first listener's.
    address: Option<SocketAddr>,
    /// The first listener's, if it speaks HTTPS.
    certificates: Option<Certificates>,
    /// The first listener's address in the configuration.
    own: String,
    workers: AtomicUsize,
    /// All that the program wrote to stdout so far.
    said: Arc<Mutex<String>>,
}

/// The certificates of a listener, now and after an exchange.
#[derive(Debug)]
struct Certificates {
    first: Certificate,
    next: Certificate,
}

/// A session as its issuer sees it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    pub(crate) token: String,
    /// `http://HOST:PORT/KEY`, or `https:` and so on
    pub(crate) url: String,
    /// `/KEY`
    pub(crate) path: String,
}

impl Relay {
    /// Starts a relay with one worker and the defaults.
    pub(crate) fn start() -> Self {
        Self::with(1, &[])
    }

    /// `workers` workers, and lines of configuration as dotted keys: `timeouts.wait_timeout = "1s"`.
    pub(crate) fn with(workers: usize, lines: &[&str]) -> Self {
        Self::run(unread(BINARY), workers, lines, None)
    }

    /// The same, but stderr goes to `errors`, and `environment` is added to the program's own.
    pub(crate) fn saying(
        errors: impl Into<Stdio>,
        environment: &[(&str, &str)],
        workers: usize,
        lines: &[&str],
    ) -> Self {
        let mut command = unread(BINARY);
        command.envs(environment.iter().copied());
        Self::run_at(ANY.to_owned(), command, workers, lines, Some(errors.into()))
    }

    /// The same on a machine of the test's own; its first listener is reached from there alone.
    pub(crate) fn on(machine: &Machine, workers: usize, lines: &[&str]) -> Self {
        Self::run(machine.command(BINARY), workers, lines, None)
    }

    /// The same with a program that is installed elsewhere.
    pub(crate) fn of(program: &Path, workers: usize, lines: &[&str]) -> Self {
        Self::run(unread(program), workers, lines, None)
    }

    /// The same with a first listener that speaks HTTPS.
    pub(crate) fn https(workers: usize, lines: &[&str]) -> Self {
        let mut relay = None;
        tls::over_tls(|| relay = Some(Self::with(workers, lines)));
        relay.unwrap()
    }

    /// The same with a program whose first listener the test opens and keeps, as a service manager does.
    pub(crate) fn activated(
        program: &Path,
        listener: &TcpListener,
        workers: usize,
        lines: &[&str],
    ) -> Self {
        let own = listener.local_addr().unwrap().to_string();
        Self::run_at(own, handed(program, listener, 1), workers, lines, None)
    }

    /// The same with a command that becomes the program; without `errors`, stderr goes to a file.
    pub(crate) fn run(
        command: Command,
        workers: usize,
        lines: &[&str],
        errors: Option<Stdio>,
    ) -> Self {
        Self::run_at(ANY.to_owned(), command, workers, lines, errors)
    }

    fn run_at(
        own: String,
        mut command: Command,
        workers: usize,
        lines: &[&str],
        errors: Option<Stdio>,
    ) -> Self {
        let workers = config::workers(workers);
        let make = || Certificates { first: Certificate::new(), next: Certificate::new() };
        let certificates = tls::is_over_tls().then(make);
        let directory = tempfile::tempdir().unwrap();
        configure(directory.path(), &own, workers, lines, certificates.is_some());
        if let Some(Certificates { first, .. }) = &certificates {
            first.write(directory.path());
        }
        let file = || File::create(directory.path().join("stderr")).unwrap().into();
        let errors = errors.unwrap_or_else(file);
        command.arg("-c").arg(directory.path().join("test.toml"));
        let mut master =
            command.stdout(Stdio::piped()).stderr(errors).spawn().expect("starting the relay");
        let said = Arc::new(Mutex::new(String::new()));
        let listening =
            first_lines(BufReader::new(master.stdout.take().unwrap()), Arc::clone(&said));
        let workers = AtomicUsize::new(workers);
        let mut relay = Self { master, directory, address: None, certificates, own, workers, said };
        let begun = Instant::now();
        let line = loop {
            let found = listening.recv_timeout(Duration::from_millis(10)).ok();
            if let Some(address) = found.or_else(|| relay.told_in_json()) {
                break address;
            }
            assert!(begun.elapsed() < PATIENCE, "no port; stderr: {}", relay.errors());
        };
        relay.address = Some(line);
        if let Some(Certificates { first, next }) = &relay.certificates {
            tls::open_port(line, [first, next], &relay.path("certificate.pem"));
        }
        relay.wait_until_served();
        relay
    }

    /// The first listener's address, if the program logs it as JSON on stderr. Notes the lines of stdout that the program
    /// writes otherwise.
    fn told_in_json(&self) -> Option<SocketAddr> {
        let log = self.errors();
        let mut events =
            log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let started = events.find(|it| it["listeners"].is_string())?;
        let urls = started["listeners"].as_str()?.split(' ');
        let lines: Vec<_> = urls.map(|url| format!("listening on {url}")).collect();
        let admin = format!("admin listener on {}", started["admin"].as_str()?);
        *self.said.lock().unwrap() = format!("{}\n{admin}\n", lines.join("\n"));
        listener_address(lines.first()?)?.parse().ok()
    }

    /// Waits until every worker has made its epoll, which it does once it has closed the descriptors that are not its
    /// own.
    fn wait_until_served(&self) {
        let ready = |p: &Pid| p.fds().iter().any(|(_, link)| link.contains("eventpoll"));
        let workers = self.workers.load(Ordering::Relaxed);
        eventually(&format!("{workers} workers serve"), || {
            let pids = self.worker_pids();
            (pids.len() == workers && pids.iter().all(ready)).then_some(())
        });
    }

    /// Changes the configuration file; nothing else.
    pub(crate) fn configure(&self, workers: usize, lines: &[&str]) {
        let is_https = self.certificates.is_some();
        configure(self.directory(), &self.own, workers, lines, is_https);
    }

    /// `idontstore -s REQUEST`, not run yet.
    pub(crate) fn request(&self, request: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("-c").arg(self.config_path()).args(["-s", request]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What the operator hears who ends the session with this hash.
    pub(crate) fn end_session(&self, hash: &str) -> std::process::Output {
        let mut command = Command::new(BINARY);
        command.arg("-c").arg(self.config_path()).args(["end", hash]).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Reloads with another configuration, and waits until all its workers serve and the old ones drain.
    #[track_caller]
    pub(crate) fn reload(&self, workers: usize, lines: &[&str]) {
        self.renew("reload", workers, lines);
    }

    /// Upgrades to the installed program, and waits likewise.
    #[track_caller]
    pub(crate) fn upgrade(&self, workers: usize, lines: &[&str]) {
        self.renew("upgrade", workers, lines);
    }

    #[track_caller]
    fn renew(&self, request: &str, workers: usize, lines: &[&str]) {
        let workers = config::workers(workers);
        let before = self.worker_pids();
        self.configure(workers, lines);
        let output = self.request(request).output().unwrap();
        assert!(output.status.success(), "{output:?}\n{}", self.errors());
        self.workers.store(workers, Ordering::Relaxed);
        self.wait_until_served();
        eventually("the old ones know", || {
            self.worker_pids().iter().all(|p| !before.contains(p)).then_some(())
        });
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("it listens")
    }

    /// The certificate that the first listener shows.
    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificates.as_ref().expect("it speaks HTTPS").first
    }

    /// Puts the next certificate in place for a reload, if the relay speaks HTTPS.
    pub(crate) fn exchange_certificate(&self) {
        if let Some(Certificates { next, .. }) = &self.certificates {
            next.write(self.directory());
        }
    }

    /// The address of the listener `index`, in the order of the configuration.
    pub(crate) fn listener(&self, index: usize) -> SocketAddr {
        eventually(&format!("listener {index} on stdout"), || {
            let said = self.said.lock().unwrap();
            said.lines().filter_map(listener_address).nth(index)?.parse().ok()
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address())
    }

    /// A directory that lives as long as the relay.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until `word` is on stdout, and returns all that is there.
    #[track_caller]
    pub(crate) fn wait_for_output(&self, word: &str) -> String {
        eventually(&format!("{word:?} on stdout"), || {
            let said = self.said.lock().unwrap().clone();
            said.contains(word).then_some(said)
        })
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.path("test.toml")
    }

    /// Reads what the program wrote to stderr so far.
    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    pub(crate) fn master(&self) -> Pid {
        Pid(i32::try_from(self.master.id()).unwrap())
    }

    /// The workers by their number in the title, without those that are dead, drain, or have no title yet.
    pub(crate) fn worker_pids(&self) -> Vec<Pid> {
        let number =
            |p: &Pid| p.title().strip_prefix("idontstore: worker process ")?.parse::<u32>().ok();
        let mut workers: Vec<_> =
            self.master().children().into_iter().filter_map(|p| Some((number(&p)?, p))).collect();
        workers.sort_unstable();
        workers.into_iter().map(|(_, pid)| pid).collect()
    }

    pub(crate) fn segment(&self) -> Segment {
        Segment::of(self.master(), self.workers.load(Ordering::Relaxed))
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.address())
    }

    /// Asks for a session by `POST /`, on a connection of its own.
    pub(crate) fn session(&self) -> Session {
        let mut raw = self.connect();
        let answer =
            raw.request("POST", "/", &[("Connection", "close")]).read_response().expect(201);
        let url = answer.head.must("Location").to_owned();
        let path =
            url.strip_prefix(&self.url("")).unwrap_or_else(|| panic!("Location {url}")).to_owned();
        let cookie = answer.head.must("Set-Cookie");
        let token = cookie
            .strip_prefix("token=")
            .and_then(|c| c.split(';').next())
            .expect("a token cookie");
        raw.expect_close();
        Session {
            address: self.address(),
            key: path.trim_start_matches('/').to_owned(),
            token: token.trim_matches('"').to_owned(),
            url,
            path,
        }
    }

    /// Number of open descriptors of each worker.
    pub(crate) fn fd_counts(&self) -> Vec<usize> {
        self.worker_pids().iter().map(|p| p.fds().len()).collect()
    }

    /// Checks that nothing of any transfer is left: no connection, chunk or place, and the descriptors of before.
    #[track_caller]
    pub(crate) fn expect_nothing_held(&self, segment: &Segment, fds_before: &[usize]) {
        let held =
            || (segment.sum().open, segment.chunks_held(), segment.places_held(), self.fd_counts());
        let clean = (0, 0, 0, fds_before.to_vec());
        let start = std::time::Instant::now();
        while held() != clean {
            let now = held();
            assert!(
                start.elapsed() < PATIENCE,
                "(connections, chunks, places, fds) held: {now:?}, not {clean:?}"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Runs `connect`, which opens one connection, while only worker `wanted` can accept it, and proves that it did.
    #[track_caller]
    pub(crate) fn on_worker<T>(
        &self,
        wanted: usize,
        segment: &Segment,
        connect: impl FnOnce() -> T,
    ) -> T {
        let pids = self.worker_pids();
        let others: Vec<_> =
            pids.iter().enumerate().filter(|(i, _)| *i != wanted).map(|(_, p)| *p).collect();
        let before: Vec<_> = segment.all().iter().map(|c| c.accepted).collect();
        let stopped = Stopped::hold(&others);
        let made = connect();
        eventually(&format!("worker {wanted} accepts"), || {
            (segment.counters(wanted).accepted > before[wanted]).then_some(())
        });
        drop(stopped);
        for (i, accepted) in before.iter().enumerate().filter(|(i, _)| *i != wanted) {
            assert_eq!(
                segment.counters(i).accepted,
                *accepted,
                "worker {i} accepted a connection too"
            );
        }
        made
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.master().signal(signal);
    }

    /// Waits for the master's own end: its exit code, -1 if a signal ended it.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> i32 {
        let master = &mut self.master;
        eventually("the master ends", || master.try_wait().unwrap()).code().unwrap_or(-1)
    }

    /// Reaps a master that was killed, whose workers then have no parent.
    pub(crate) fn kill_master(&mut self) {
        self.master.kill().unwrap();
        self.master.wait().unwrap();
    }
}

fn unread(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// A command that hands `socket` to the program as the first of `count` descriptors.
pub(crate) fn handed(program: &Path, socket: &impl AsFd, count: usize) -> Command {
    let mut command = Command::new("/bin/sh");
    let hand = "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let socket: OwnedFd = socket.as_fd().try_clone_to_owned().unwrap();
    command.args(["-c", hand]).arg(program).env("LISTEN_FDS", count.to_string()).stdin(socket);
    command
}

/// Reads the program's stdout into `said` for as long as it writes; hands over the listeners' addresses.
fn first_lines(
    stdout: impl BufRead + Send + 'static,
    said: Arc<Mutex<String>>,
) -> mpsc::Receiver<SocketAddr> {
    let (found, listening) = mpsc::channel();
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            said.lock().unwrap().push_str(&format!("{line}\n"));
            let address = listener_address(&line);
            if let Some(address) = address.and_then(|address| address.parse().ok()) {
                let _ = found.send(address);
            }
        }
    });
    listening
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            tls::close_port(address);
        }
        let workers = self.worker_pids();
        if std::thread::panicking() {
            eprintln!("--- stderr of the relay\n{}", self.errors());
        }
        workers.iter().for_each(|p| p.signal(Signal::SIGCONT));
        if matches!(self.master.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
            if !self.master().is_gone_within(Duration::from_secs(5)) {
                let _ = self.master.kill();
            }
            let _ = self.master.wait();
        }
        for worker in workers {
            if !worker.is_gone_within(Duration::from_secs(2))
                && worker.title().starts_with("idontstore: worker")
            {
                worker.signal(Signal::SIGKILL);
            }
        }
    }
}
