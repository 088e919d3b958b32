//! Real clients go on by themselves over lines that break: curl sends with no more than `--retry`, and wget, Chromium's
//! downloads and a curl that is started again receive.
//!
//! A few transfers for each here; `scripts/resume` runs two hundred, of up to a GiB.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use protocols::{over_both, over_http};
use shm::Role;

use crate::harness::{
    By, Curl, Cut, Cutter, Of, Payload, Relay, Session, TAKEN_BYTES_MAX, eventually,
    eventually_within, trusted_by_curl,
};

/// How long one transfer may take, its cuts included.
const TRANSFER_WITHIN: Duration = Duration::from_secs(300);
/// Cuts of one transfer.
const CUTS_MAX: u64 = 10;
/// Chromium gives up after five; cuts of the sender's line count too.
const CHROMIUM_CUTS_MAX: u64 = 4;
/// Upper bound of an answer's head: Chromium goes on only with a download whose head it has.
const HEAD_BYTES: u64 = 2000;
/// Bytes that a cut may cost on the relay's side: those of an answer that the sockets' buffers hold.
const LOST_BYTES_MAX: u64 = 8 << 20;
/// Bytes of a connection beside the payload: an answer's head, and with TLS a handshake.
const CONNECTION_BYTES: u64 = 16 << 10;
/// Upper bound of the bytes that a client's kernel holds for it.
const DROPPED_BYTES_MAX: u64 = 6 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    Wget,
    Chromium,
    /// `curl -C -`, started again until it succeeds.
    Curl,
}

/// A source of numbers that a seed determines.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if end == 0 { 0 } else { (self.0 >> 16) % end }
    }

    /// Cuts in the first `bytes`, in the order of connections.
    fn cuts(&mut self, count: u64, from: u64, bytes: u64, resets: bool) -> Vec<Cut> {
        let mut cut = || {
            let by = if resets && self.below(2) == 0 { By::Reset } else { By::Fin };
            Cut { after: from + self.below(bytes), by }
        };
        (0..count).map(|_| cut()).collect()
    }
}

/// Passes one file from end to end over two lines that break. Returns how often they did.
fn transfer(relay: &Relay, receiver: Receiver, bytes: u64, seed: u64) -> u64 {
    let payload = Payload::new(seed, bytes);
    let directory = relay.path(&format!("{receiver:?}-{bytes}-{seed}"));
    fs::create_dir_all(&directory).unwrap();
    payload.write_file(&directory.join("sent"));
    let (mut dice, session) = (Dice(seed), relay.session());
    let is_chromium = receiver == Receiver::Chromium;
    let cuts_max = if is_chromium { CHROMIUM_CUTS_MAX } else { CUTS_MAX };
    let count = dice.below(cuts_max + 1);
    let of_sender = dice.below(count + 1);
    let cuts = dice.cuts(of_sender, 1, bytes + 200, true);
    let to_sender = Cutter::new(relay.address(), Of::Sender, cuts, u64::MAX);
    // All of a small file may have come to the cutter before it passes on a byte: such a line is not cut.
    let safe_bytes = bytes.saturating_sub(TAKEN_BYTES_MAX + HEAD_BYTES);
    let from = if is_chromium { HEAD_BYTES } else { 1 };
    let of_receiver = if safe_bytes == 0 { 0 } else { count - of_sender };
    let cuts = dice.cuts(of_receiver, from, safe_bytes, !is_chromium);
    let to_receiver = Cutter::new(relay.address(), Of::Receiver, cuts, safe_bytes);

    let scheme = if trusted_by_curl().is_some() { "https" } else { "http" };
    let url = |line: &Cutter| format!("{scheme}://{}{}", line.address, session.path);
    let sender = Curl::new("-sS --fail-with-body --retry 50 --retry-all-errors --retry-delay 1")
        .args(["-T", "sent"])
        .arg(format!("{}/", url(&to_sender)))
        .within(&directory)
        .start();
    let got = directory.join("got");
    receiver.receive(&url(&to_receiver), &directory, &got, bytes);
    let report = sender.finish_within(TRANSFER_WITHIN).expect(0);
    assert!(report.text().ends_with(&format!("delivered {bytes} bytes\n")), "{}", report.text());
    payload.assert_file(&got);
    // The browser's files go with the relay's directory at the latest.
    let _ = fs::remove_dir_all(&directory);
    // No client gets a byte twice, except bytes that its kernel drops where a reset ends the line. TLS adds a little to
    // each record.
    let (connections, passed) = to_receiver.passed();
    let dropped = to_receiver.made() * DROPPED_BYTES_MAX;
    let most = bytes + bytes / 50 + connections * CONNECTION_BYTES + dropped;
    assert!(passed <= most, "{passed} bytes passed of {bytes}, in {connections} connections");
    to_sender.made() + to_receiver.made()
}

impl Receiver {
    fn receive(self, url: &str, directory: &Path, got: &Path, bytes: u64) {
        match self {
            Self::Wget => {
                let mut wget = Command::new("wget");
                wget.args(["--no-config", "-q", "--no-proxy", "--tries=50", "--waitretry=1"]);
                if let Some(certificate) = trusted_by_curl() {
                    wget.arg("--ca-certificate").arg(certificate);
                }
                let mut wget = Ended::start(wget.arg("-O").arg(got).arg(url));
                let status =
                    eventually_within(TRANSFER_WITHIN, "wget ends", || wget.0.try_wait().unwrap());
                assert!(status.success(), "{status}");
            }
            Self::Curl => eventually_within(TRANSFER_WITHIN, "curl is content", || {
                let curl = Curl::new("-sS -f -C - -o got").arg(url).within(directory);
                let outcome = curl.start().finish_within(TRANSFER_WITHIN);
                (outcome.code == 0).then_some(())
            }),
            Self::Chromium => {
                let _browser = browser(url, directory);
                // Until the download is complete, an empty file has the name, and another file the bytes.
                let saved = directory.join("downloads/sent");
                eventually_within(TRANSFER_WITHIN, "the download is complete", || {
                    fs::metadata(&saved).ok().filter(|file| file.len() == bytes)
                });
                fs::rename(saved, got).unwrap();
            }
        }
    }
}

/// A program that does not outlive the test.
struct Ended(Child);

impl Ended {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).process_group(0);
        Self(command.spawn().expect("scripts/test installs it"))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // A browser is many processes; each program has a group of its own.
        if let Ok(group) = i32::try_from(self.0.id()) {
            let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Chromium, which saves the file at `url` in `downloads`.
fn browser(url: &str, directory: &Path) -> Ended {
    let (profile, downloads): (PathBuf, _) =
        (directory.join("profile"), directory.join("downloads"));
    fs::create_dir_all(profile.join("Default")).unwrap();
    fs::create_dir_all(&downloads).unwrap();
    let preferences = serde_json::json!({
        "download": { "default_directory": downloads, "prompt_for_download": false },
    });
    fs::write(profile.join("Default/Preferences"), preferences.to_string()).unwrap();
    let mut chromium = Command::new("chromium");
    chromium
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .args(["--no-proxy-server", "--ignore-certificate-errors"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ended::start(&mut chromium)
}

/// Transfers to `receiver`, one of each size, at once.
fn transfers(receiver: Receiver, sizes: &[u64], seed: u64) {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let cuts = AtomicU64::new(0);
    thread::scope(|scope| {
        for (size, seed) in sizes.iter().zip(seed..) {
            let (relay, cuts) = (&relay, &cuts);
            scope.spawn(move || {
                cuts.fetch_add(transfer(relay, receiver, *size, seed), Ordering::Relaxed);
            });
        }
    });
    let cuts = cuts.into_inner();
    assert!(cuts > 0, "no line broke");
    expect_little_lost(segment.sum().bytes_out, sizes.iter().sum(), cuts);
}

/// Checks that a cut costs the relay no more than the bytes on their way.
fn expect_little_lost(sent: u64, bytes: u64, cuts: u64) {
    let lost = sent.checked_sub(bytes).expect("all of it was sent");
    assert!(lost <= cuts * LOST_BYTES_MAX, "{lost} bytes lost in {cuts} cuts");
}

const SIZES: [u64; 5] = [1, 1000, 300_000, 5_000_000, 30_000_000];

#[over_both]
fn heavy_wget_goes_on_by_itself() {
    transfers(Receiver::Wget, &SIZES, 100);
}

#[over_both]
fn heavy_a_curl_that_is_started_again_goes_on() {
    transfers(Receiver::Curl, &SIZES, 200);
}

/// aria2c asks for the whole file first, and drops that answer, so the whole file must not fit into the sockets' buffers.
#[over_http("TLS does not change requests and answers")]
fn heavy_aria2c_goes_on_though_it_asks_for_all_first() {
    const BYTES: u64 = 50_000_000;
    let relay = Relay::with(2, &[]);
    let (session, payload) = (relay.session(), Payload::new(6, BYTES));
    payload.write_file(&relay.path("sent"));
    payload.write_file(&relay.path("got"));
    fs::File::options().write(true).open(relay.path("got")).unwrap().set_len(BYTES / 3).unwrap();
    let sender = Curl::new("-sS --fail-with-body --retry 50 --retry-all-errors --retry-delay 1")
        .args(["-T", "sent"])
        .arg(format!("{}/", session.url))
        .within(relay.directory())
        .start();
    let mut aria2 = Command::new("aria2c");
    aria2.args(["--no-conf", "-q", "-c", "-x1", "-o", "got"]).arg(&session.url);
    let mut aria2 = Ended::start(aria2.current_dir(relay.directory()));
    let status = eventually_within(TRANSFER_WITHIN, "it ends", || aria2.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    sender.finish_within(TRANSFER_WITHIN).expect(0);
    payload.assert_file(&relay.path("got"));
}

#[over_http("TLS does not change requests and answers")]
fn heavy_chromium_goes_on_by_itself() {
    transfers(Receiver::Chromium, &[300_000, 5_000_000, 30_000_000], 300);
}

/// Ten transfers at once, each on a relay of its own. In the midst of each, the workers of these roles are killed.
fn outlive(roles: &[Role]) {
    const TRANSFERS: u64 = 10;
    thread::scope(|scope| {
        for seed in 0..TRANSFERS {
            scope.spawn(move || outlives(roles, seed));
        }
    });
}

fn outlives(roles: &[Role], seed: u64) {
    const BYTES: u64 = 20_000_000;
    let relay = Relay::with(2, &[]);
    let (segment, session, payload) = (relay.segment(), relay.session(), Payload::new(seed, BYTES));
    payload.write_file(&relay.path("sent"));
    let sender = Curl::new("-sS --fail-with-body --retry 50 --retry-all-errors --retry-delay 1")
        .args(["--limit-rate", "20M", "-T", "sent"])
        .arg(format!("{}/", session.url))
        .within(relay.directory())
        .start();
    thread::scope(|scope| {
        let got = relay.path("got");
        let url = &session.url;
        let receiver = if seed.is_multiple_of(2) { Receiver::Wget } else { Receiver::Curl };
        let directory = relay.directory();
        let receiving = scope.spawn(move || receiver.receive(url, directory, &got, BYTES));
        let midway = BYTES / 10 * (1 + seed % 8);
        eventually("it is midway", || (segment.sum().bytes_out >= midway).then_some(()));
        let pids = relay.worker_pids();
        let of = |role: &Role| pids[segment.worker_of(*role).expect("a transfer is running")];
        let mut doomed: Vec<_> = roles.iter().map(of).collect();
        doomed.sort_unstable();
        doomed.dedup();
        doomed.iter().for_each(|pid| pid.signal(Signal::SIGKILL));
        receiving.join().unwrap();
    });
    let report = sender.finish_within(TRANSFER_WITHIN).expect(0);
    assert!(report.text().ends_with(&format!("delivered {BYTES} bytes\n")), "{}", report.text());
    payload.assert_file(&relay.path("got"));
}

#[over_both]
fn heavy_a_file_outlives_its_senders_worker() {
    outlive(&[Role::Sender]);
}

#[over_both]
fn heavy_a_file_outlives_its_receivers_worker() {
    outlive(&[Role::Receiver]);
}

#[over_both]
fn heavy_a_file_outlives_both_workers() {
    outlive(&[Role::Sender, Role::Receiver]);
}

/// `RESUME_TRANSFERS` transfers, of every receiver by turns and of every size up to a GiB, some at a time.
#[over_http("TLS does not change requests and answers")]
#[ignore = "takes half an hour: scripts/resume runs it"]
fn two_hundred_transfers() {
    const RECEIVERS: [Receiver; 3] = [Receiver::Wget, Receiver::Curl, Receiver::Chromium];
    const AT_ONCE: usize = 4;
    let count = std::env::var("RESUME_TRANSFERS").map_or(200, |it| it.parse().expect("a number"));
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let (next, cuts, bytes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let take_turns = || loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let receiver = RECEIVERS[usize::try_from(number % 3).unwrap()];
            let mut dice = Dice(number);
            let magnitude = 1 << dice.below(30);
            let least = if receiver == Receiver::Chromium { 1 << 20 } else { 1 };
            let size = (magnitude + dice.below(magnitude + 1)).max(least);
            println!("{number}: {receiver:?}, {size} bytes");
            let made = transfer(&relay, receiver, size, number);
            println!("{number}: whole, {made} cuts");
            cuts.fetch_add(made, Ordering::Relaxed);
            bytes.fetch_add(size, Ordering::Relaxed);
        };
        (0..AT_ONCE).for_each(|_| drop(scope.spawn(take_turns)));
    });
    let (sent, skipped) = (segment.sum().bytes_out, segment.sum().bytes_skipped);
    let (cuts, bytes) = (cuts.into_inner(), bytes.into_inner());
    println!(
        "{count} of {count} whole: {bytes} bytes, {cuts} cuts; {sent} sent, {skipped} dropped"
    );
    assert!(cuts > count, "few lines broke");
    expect_little_lost(sent, bytes, cuts);
}

/// The script in the docs for a sender that leaves out the bytes that the receiver has.
const HEAD_SCRIPT: &str = "\
    until curl -q -sS --noproxy '*' --fail-with-body -C \"$(curl -q -sI --noproxy '*' \"$url\" | tr -d '\\r' | \
        sed -n 's/^[Uu]pload-[Oo]ffset: //p' | grep . || echo 0)\" -T sent \"$url/\"; do sleep 1; done";

#[over_http("TLS does not change requests and answers")]
fn heavy_a_sender_that_asks_where_to_begin_sends_no_more_than_that() {
    const BYTES: u64 = 20_000_000;
    let relay = Relay::with(2, &[]);
    let (session, payload) = (relay.session(), Payload::new(5, BYTES));
    payload.write_file(&relay.path("sent"));
    let cuts = Dice(5).cuts(6, BYTES / 10, BYTES / 5, true);
    let line = Cutter::new(relay.address(), Of::Sender, cuts, u64::MAX);
    let url = format!("http://{}{}", line.address, session.path);
    let mut sender = Command::new("sh");
    sender.args(["-c", HEAD_SCRIPT]).env("url", &url).current_dir(relay.directory());
    let mut sender = Ended::start(&mut sender);
    Receiver::Wget.receive(&session.url, relay.directory(), &relay.path("got"), BYTES);
    let status = eventually_within(TRANSFER_WITHIN, "it ends", || sender.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    payload.assert_file(&relay.path("got"));
    let skipped = relay.segment().sum().bytes_skipped;
    assert!(line.made() > 2, "the line broke {} times", line.made());
    assert!(skipped < BYTES, "{skipped} bytes were sent for nothing");
}

/// A session in which five bytes of ten have reached a receiver.
fn broken(relay: &Relay) -> Session {
    let session = relay.session();
    let (mut receiver, mut sender) = (relay.connect(), relay.connect());
    receiver.get(&session.path);
    sender.request("PUT", &session.path, &[("Content-Length", "10")]).send(b"01234");
    receiver.read_head();
    assert_eq!(receiver.read_exactly(5), b"01234");
    receiver.reset();
    sender.read_response().expect_error(502);
    session
}

/// curl and wget, each with a part `01234` of a file, which go on while `send` sends. Returns their exit codes, and the
/// content of their files.
fn go_on(send: impl Fn(&Relay, &Session)) -> [(i32, String); 2] {
    let relay = Relay::with(2, &[]);
    ["curl", "wget"].map(|client| {
        let session = broken(&relay);
        let got = relay.path(client);
        fs::write(&got, "01234").unwrap();
        let mut command = Command::new(client);
        match client {
            "curl" => command.args(["-q", "-sS", "-f", "-C", "-", "--noproxy", "*", "-o"]),
            _ => command.args(["--no-config", "-q", "--no-proxy", "-c", "--tries=3", "-O"]),
        };
        let mut client = Ended::start(command.arg(&got).arg(&session.url));
        relay.segment().wait_until_held(1);
        send(&relay, &session);
        let status = eventually("it ends", || client.0.try_wait().unwrap());
        (status.code().unwrap(), fs::read_to_string(&got).unwrap())
    })
}

fn and_has(codes: [i32; 2], text: &str) -> [(i32, String); 2] {
    codes.map(|code| (code, text.to_owned()))
}

#[over_http("TLS does not change requests and answers")]
fn curl_and_wget_go_on_with_the_same_file_and_with_no_other() {
    let whole = go_on(|relay, session| {
        relay.connect().put(&session.path, b"0123456789").read_response().expect(200);
    });
    assert_eq!(whole, and_has([0, 0], "0123456789"));
    let tail = go_on(|relay, session| {
        fs::write(relay.path("sent"), "0123456789").unwrap();
        let curl = Curl::new("-sS --fail-with-body -C 3 -T sent").within(relay.directory());
        curl.arg(&session.url).run().expect(0);
    });
    assert_eq!(tail, and_has([0, 0], "0123456789"));
    // The clients append nothing to their part, and both report the failure.
    let longer = go_on(|relay, session| {
        relay.connect().put(&session.path, b"another file").read_response().expect_error(409);
    });
    assert_eq!(longer, and_has([22, 8], "01234"));
    let stream = go_on(|relay, session| {
        let mut sender = relay.connect();
        sender.request("PUT", &session.path, &[("Transfer-Encoding", "chunked")]);
        sender.send_chunk(b"56789");
        sender.read_response().expect_error(409);
    });
    assert_eq!(stream, and_has([22, 8], "01234"));
    let tagged = go_on(|relay, session| {
        let fields = [("Content-Length", "10"), ("ETag", "\"new\"")];
        let mut sender = relay.connect();
        sender.request("PUT", &session.path, &fields).send(b"9876543210");
        sender.read_response().expect_error(409);
    });
    assert_eq!(tagged, and_has([22, 8], "01234"));
}

#[over_http("TLS does not change requests and answers")]
fn curl_and_wget_are_told_that_they_have_all() {
    let relay = Relay::start();
    let session = relay.session();
    fs::write(relay.path("got"), "0123456789").unwrap();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    relay.connect().put(&session.path, b"0123456789").read_response().expect(200);
    receiver.read_response().expect(200);
    for (options, code) in [("-sS -C - -o got", 0), ("-sS -f -C - -o got", 22)] {
        let curl = Curl::new(options).arg(&session.url).within(relay.directory());
        curl.run().expect(code);
    }
    let mut wget = Command::new("wget");
    wget.args(["--no-config", "-q", "--no-proxy", "-c", "-O"]).arg(relay.path("got"));
    let mut wget = Ended::start(wget.arg(&session.url));
    assert!(wget.0.wait().unwrap().success());
    assert_eq!(fs::read(relay.path("got")).unwrap(), b"0123456789");
}
