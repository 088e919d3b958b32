//! Files moved by curl as the README types it: names, and the gigabyte that must arrive whole whichever workers serve it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use protocols::{over_both, over_http};
use tempfile::TempDir;

use crate::harness::{Curl, Payload, Placement, Relay};

/// Names as they travel: the sender's form, and the forms for `curl -J` and for a browser.
const NAMES: [(&str, &str, &str); 9] = [
    ("report.pdf", "report.pdf", "report.pdf"),
    ("a%20b.txt", "a b.txt", "a%20b.txt"),
    ("%2e%2e%2f%2e%2e%2fetc%2fpasswd", "passwd", "passwd"),
    ("..%2F.bashrc", "bashrc", "bashrc"),
    (".hidden", "hidden", "hidden"),
    ("na%C3%AFve.txt", "na\u{ef}ve.txt", "na%C3%AFve.txt"),
    ("q%22uote%5C.txt", "txt", "txt"),
    ("tab%09new%0D%0Aline", "tabnewline", "tabnewline"),
    ("semi;colon'.txt", "semi;colon'.txt", "semi%3Bcolon%27.txt"),
];

#[over_http("TLS does not change requests and answers")]
fn names_in_a_path_reach_the_receiver_harmless() {
    let relay = Relay::start();
    for (segment, plain, extended) in NAMES {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = relay.connect();
        sender.put(&format!("{}/{segment}", session.path), b"x");
        let head = receiver.read_response().expect(200).head;
        let want = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}");
        assert_eq!(head.must("Content-Disposition"), want, "{segment}");
        sender.read_response().expect(200);
    }
}

#[over_http("TLS does not change requests and answers")]
fn a_name_in_content_disposition_reaches_the_receiver() {
    let relay = Relay::start();
    for (value, want) in [
        (
            "attachment; filename=\"plain.txt\"",
            "attachment; filename=\"plain.txt\"; filename*=UTF-8''plain.txt",
        ),
        (
            "attachment; filename=x; filename*=UTF-8''%e2%82%ac",
            "attachment; filename=\"\u{20ac}\"; filename*=UTF-8''%E2%82%AC",
        ),
        ("inline", "attachment"),
        ("attachment; filename=\"../\"", "attachment"),
        (
            "attachment; filename*0=\"a \"; filename*1*=%2e; filename*2=txt",
            "attachment; filename=\"a .txt\"; filename*=UTF-8''a%20.txt",
        ),
        (
            "attachment; filename*=UTF-8''a%e2%80%aegpj.exe%2e%20",
            "attachment; filename=\"agpj.exe\"; filename*=UTF-8''agpj.exe",
        ),
        (
            "attachment; filename=\"NUL.txt\"",
            "attachment; filename=\"_NUL.txt\"; filename*=UTF-8''_NUL.txt",
        ),
        (
            "attachment; filename=\"a:b|c?.txt\"",
            "attachment; filename=\"a_b_c_.txt\"; filename*=UTF-8''a_b_c_.txt",
        ),
    ] {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = relay.connect();
        let fields = [("Content-Disposition", value), ("Content-Length", "1")];
        sender.request("POST", &session.path, &fields).send(b"x");
        assert_eq!(
            receiver.read_response().expect(200).head.must("Content-Disposition"),
            want,
            "{value}"
        );
        sender.read_response().expect(200);
    }
}

#[over_http("TLS does not change requests and answers")]
fn a_long_name_is_cut_at_255_bytes_in_front_of_its_extension() {
    let relay = Relay::start();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.put(&format!("{}/{}.jpeg", session.path, "%C3%A9".repeat(200)), b"x");
    let head = receiver.read_response().expect(200).head;
    let extended = head.must("Content-Disposition").split("UTF-8''").nth(1).unwrap().to_owned();
    assert_eq!(extended, "%C3%A9".repeat(125) + ".jpeg");
}

#[over_both]
fn the_readme_example_by_form_and_by_upload() {
    let relay = Relay::with(2, &[]);
    fs::create_dir(relay.path("out")).unwrap();
    for (send, receive, name) in [
        ("-F file=@my.file", "-fsSOJ", "my.file"),
        ("-T my.file", "-fsSOJ", "my.file"),
        ("--data-binary @my.file", "-fsS -o data", "data"),
        ("-T my.file -H Transfer-Encoding:chunked", "-fsSOJ", "my.file"),
    ] {
        fs::write(relay.path("my.file"), send).unwrap();
        let url =
            Curl::new("-sX POST").arg(relay.url("")).run().expect(0).text().trim_end().to_owned();
        let target = if send.starts_with("-T") { format!("{url}/") } else { url.clone() };
        let receiving = Curl::new(receive).arg(&url).within(&relay.path("out")).start();
        let sent = Curl::new("-sS --fail-with-body").within(relay.directory());
        let sent = send
            .split(' ')
            .fold(sent, |curl, argument| curl.arg(argument))
            .arg(&target)
            .run()
            .expect(0);
        receiving.finish().expect(0);
        assert!(sent.text().contains(&format!("{} bytes", send.len())), "{}", sent.text());
        let out = relay.path("out").join(name);
        assert_eq!(fs::read_to_string(&out).unwrap(), send);
        fs::remove_file(out).unwrap();
    }
}

#[over_both]
fn an_empty_file_by_curl() {
    let relay = Relay::start();
    fs::write(relay.path("empty"), "").unwrap();
    for send in ["-F file=@empty", "-T empty"] {
        let session = relay.session();
        let receiving =
            Curl::new("-fsS -o got").arg(&session.url).within(relay.directory()).start();
        let sent = Curl::new("-sS --fail-with-body").within(relay.directory());
        let sent = send
            .split(' ')
            .fold(sent, |curl, argument| curl.arg(argument))
            .arg(&session.url)
            .run()
            .expect(0);
        receiving.finish().expect(0);
        assert!(sent.text().contains("0 bytes"), "{}", sent.text());
        assert_eq!(fs::read(relay.path("got")).unwrap(), b"");
        fs::remove_file(relay.path("got")).unwrap();
    }
}

#[over_both]
fn curl_that_sends_first_waits_beyond_its_own_second() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let payload = Payload::new(1, 5_000_000);
    payload.write_file(&relay.path("early.bin"));
    for send in ["-T early.bin", "-F file=@early.bin"] {
        let session = relay.session();
        let curl = Curl::new("-sS --fail-with-body").within(relay.directory());
        let curl = send.split(' ').fold(curl, |curl, argument| curl.arg(argument));
        let mut sending = curl.arg(&session.url).start();
        segment.wait_until_held(1);
        // curl sends its body after a second without the interim answer, and stalls in TCP.
        thread::sleep(Duration::from_millis(1500));
        assert!(sending.is_running());
        assert_eq!(segment.sum().bytes_in % payload.len(), 0, "read before the pairing");
        Curl::new("-fsS -o got").arg(&session.url).within(relay.directory()).run().expect(0);
        sending.finish().expect(0);
        payload.assert_file(&relay.path("got"));
    }
}

/// Size of the large file: not a multiple of any chunk.
const LARGE_BYTES: u64 = (1 << 30) + 12_345;

/// A directory in memory, if there is one with room: these tests do not test the disk.
fn roomy_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let roomy = nix::sys::statvfs::statvfs(memory)
        .is_ok_and(|s| s.blocks_available() * s.fragment_size() > 6 << 30);
    if roomy { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn random_file(path: PathBuf) -> PathBuf {
    let mut random = File::open("/dev/urandom").unwrap().take(LARGE_BYTES);
    io::copy(&mut random, &mut File::create(&path).unwrap()).unwrap();
    path
}

fn sha256(path: &Path) -> String {
    let out = Command::new("sha256sum").arg(path).output().expect("sha256sum");
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn a_gigabyte_arrives(send: &str, receive: &str, name: &str, placement: Placement) {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let directory = roomy_directory();
    let file = random_file(directory.path().join("large.bin"));
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    let session = relay.session();
    let before = segment.all();
    let (receiver, sender) = placement.workers();
    let receiving = relay.on_worker(receiver, &segment, || {
        Curl::new(receive).arg(&session.url).within(&out).start()
    });
    let sending = relay.on_worker(sender, &segment, || {
        let curl = Curl::new("-sS --fail-with-body -w \\n%header{x-bytes-delivered}")
            .within(directory.path());
        let target =
            if send.starts_with("-T") { format!("{}/", session.url) } else { session.url.clone() };
        send.split(' ').fold(curl, |curl, argument| curl.arg(argument)).arg(target).start()
    });
    let sent = sending.finish().expect(0);
    receiving.finish().expect(0);
    assert!(sent.text().ends_with(&format!("\n{LARGE_BYTES}")), "{}", sent.text());
    assert_eq!(sha256(&file), sha256(&out.join(name)));
    placement.expect_moved(&segment, &before, LARGE_BYTES);
}

#[over_http("load is tested once")]
fn heavy_a_gigabyte_by_form_across_workers() {
    a_gigabyte_arrives("-F file=@large.bin", "-fsSOJ", "large.bin", Placement::TwoWorkers);
}

#[over_http("load is tested once")]
fn heavy_a_gigabyte_by_form_on_one_worker() {
    a_gigabyte_arrives("-F file=@large.bin", "-fsSOJ", "large.bin", Placement::SameWorker);
}

#[over_http("load is tested once")]
fn heavy_a_gigabyte_by_upload_across_workers() {
    a_gigabyte_arrives("-T large.bin", "-fsS -o got", "got", Placement::TwoWorkers);
}

#[over_http("load is tested once")]
fn heavy_a_gigabyte_by_upload_on_one_worker() {
    a_gigabyte_arrives("-T large.bin", "-fsS -o got", "got", Placement::SameWorker);
}
