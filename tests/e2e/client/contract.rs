//! The storj exercise's contract, and what people may expect beyond it: files and streams arrive whole under their own
//! name, one line is printed, and nothing that is there is harmed.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use protocols::over_http;

use super::{Sends, all, link, names, receive, receives};
use crate::harness::{Payload, Relay, eventually};

#[over_http("the client speaks bare TCP")]
fn three_programs_pass_a_file_as_the_exercise_asks() {
    let directory = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let relay = link(directory.path(), "relay").arg(format!(":{port}")).spawn().unwrap();
    let _relay = super::Sends { child: Some(relay), code: String::new() };
    let address = format!("localhost:{port}");
    eventually("the relay listens", || std::net::TcpStream::connect(&address).ok());
    let payload = Payload::new(1, 5 << 20);
    payload.write_file(&directory.path().join("corgis.mp4"));
    fs::create_dir(directory.path().join("out")).unwrap();
    let mut send = link(directory.path(), "send");
    let send = send.args([&address, "corgis.mp4"]).current_dir(directory.path()).spawn().unwrap();
    let mut send = super::Sends { child: Some(send), code: String::new() };
    let stdout = send.child.as_mut().unwrap().stdout.take().unwrap();
    // The code alone, with a line feed, long before the file is sent.
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(stdout);
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let code = line.strip_suffix('\n').unwrap();
    assert!(code.bytes().all(|it| it.is_ascii_graphic()), "{code:?}");
    let mut receive = link(directory.path(), "receive");
    let received = receive.args([&address, code, "out/"]).current_dir(directory.path()).output();
    let received = received.unwrap();
    assert_eq!((received.status.code(), received.stdout), (Some(0), Vec::new()));
    assert_eq!((send.end().0, all(stdout)), (0, Vec::new()));
    assert_eq!(names(&directory.path().join("out")), ["corgis.mp4"]);
    payload.assert_file(&directory.path().join("out/corgis.mp4"));
}

#[over_http("the client speaks bare TCP")]
fn heavy_files_of_every_length_pass_fifty_at_once() {
    let relay = Relay::with(4, &[]);
    let lengths = [0, 1, 65_535, 65_536, 65_537, 1_000_003, 3 << 20];
    thread::scope(|scope| {
        for number in 0..50 {
            let relay = &relay;
            scope.spawn(move || {
                let payload =
                    Payload::new(number, lengths[usize::try_from(number).unwrap() % lengths.len()]);
                let path = relay.path(&format!("file-{number}"));
                payload.write_file(&path);
                let to = relay.path(&format!("to-{number}"));
                fs::create_dir(&to).unwrap();
                let sends = Sends::file(relay, &path);
                let (exit, out, err) = receive(relay, &sends.code, &to);
                assert_eq!((exit, &*out), (0, ""), "{err}");
                let (exit, out, err) = sends.end();
                assert_eq!((exit, &*out), (0, ""), "{err}");
                assert!(err.contains("confirmed"), "{err}");
                payload.assert_file(&to.join(format!("file-{number}")));
            });
        }
    });
}

#[over_http("the client speaks bare TCP")]
fn a_stream_passes_from_standard_input_to_standard_output() {
    let relay = Relay::with(2, &[]);
    let payload = Payload::new(3, 2_000_001);
    payload.write_file(&relay.path("source"));
    let source = fs::File::open(relay.path("source")).unwrap();
    let sends = Sends::start(&relay, "-", Stdio::from(source));
    let output = receives(&relay, &sends.code, "-").output().unwrap();
    assert!(output.status.success());
    assert_eq!(payload.first_difference(0, &output.stdout), None);
    assert_eq!(output.stdout.len() as u64, payload.len());
    assert_eq!(sends.end().0, 0);
}

#[over_http("the client speaks bare TCP")]
fn relay_and_code_may_come_from_the_environment() {
    let relay = Relay::with(2, &[]);
    fs::write(relay.path("note"), "hello").unwrap();
    let sends = Sends::file(&relay, &relay.path("note"));
    let folder = relay.path("to");
    fs::create_dir(&folder).unwrap();
    let mut command = link(relay.directory(), "receive");
    command
        .env("IDONTSTORE_RELAY", relay.address().to_string())
        .env("IDONTSTORE_CODE", &sends.code);
    assert!(command.arg("--quiet").current_dir(&folder).output().unwrap().stderr.is_empty());
    assert_eq!(fs::read_to_string(folder.join("note")).unwrap(), "hello");
    assert_eq!(sends.end().0, 0);
}

#[over_http("the client speaks bare TCP")]
fn a_file_that_is_there_stays_unless_told_otherwise() {
    let relay = Relay::with(2, &[]);
    fs::write(relay.path("note"), "new").unwrap();
    let folder = relay.path("to");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("note"), "old").unwrap();
    let sends = Sends::file(&relay, &relay.path("note"));
    let (exit, _, err) = receive(&relay, &sends.code, &folder);
    assert!(exit == 1 && err.contains("there is a file of this name already"), "{exit}: {err}");
    let (exit, _, err) = sends.end();
    assert!(exit == 4 && err.contains("the other side refuses: there is a file"), "{exit}: {err}");
    assert_eq!(fs::read_to_string(folder.join("note")).unwrap(), "old");
    let sends = Sends::file(&relay, &relay.path("note"));
    let output = receives(&relay, &sends.code, &folder).arg("--overwrite").output().unwrap();
    assert!(output.status.success());
    assert_eq!(fs::read_to_string(folder.join("note")).unwrap(), "new");
    assert_eq!(names(&folder), ["note"]);
}

#[over_http("the client speaks bare TCP")]
fn a_file_may_grow_until_its_receiver_comes() {
    let relay = Relay::with(2, &[]);
    fs::write(relay.path("log"), "one").unwrap();
    let to = relay.path("to");
    fs::create_dir(&to).unwrap();
    let sends = Sends::file(&relay, &relay.path("log"));
    fs::write(relay.path("log"), "one, two").unwrap();
    let (exit, _, err) = receive(&relay, &sends.code, &to);
    assert_eq!((exit, sends.end().0), (0, 0), "{err}");
    assert_eq!(fs::read_to_string(to.join("log")).unwrap(), "one, two");
}

#[over_http("the client speaks bare TCP")]
fn what_cannot_be_is_told_before_a_relay_is_asked() {
    let nowhere = "127.0.0.1:9";
    let directory = tempfile::tempdir().unwrap();
    let run = |name: &str, words: &[&str]| {
        super::ended(link(directory.path(), name).args(words).output().unwrap())
    };
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (name, words, exit, says) in [
        ("send", &[nowhere, "missing"][..], 1, "missing: No such file"),
        ("send", &[nowhere, "/"], 1, "this is no file"),
        ("send", &[nowhere, pipe.to_str().unwrap()], 1, "this is no file"),
        ("send", &["missing"], 2, "which relay?"),
        ("send", &["https://relay", "file"], 2, "is no relay"),
        ("send", &[nowhere, "a", "b"], 2, "unexpected"),
        ("send", &["-c", "x", nowhere, "a"], 2, "no relay"),
        ("receive", &[nowhere, "KEY-guitar-lemon", "missing"], 1, "missing: No such file"),
        ("receive", &[nowhere, "KEY-guitar-lemon", "/etc/passwd"], 1, "this is no folder"),
        ("receive", &[nowhere, "KEY-guitar-lemonn"], 2, "perhaps \"lemon\""),
        ("receive", &[nowhere, "KEY-guitar-lemon", "a", "b"], 2, "unexpected"),
        ("receive", &[nowhere, "KEY-guitar-lemon", "-"], 1, "cannot reach a relay at 127.0.0.1:9"),
    ] {
        let (found, out, err) = run(name, words);
        assert_eq!((found, &*out), (exit, ""), "{words:?}: {err}");
        assert!(err.contains(says), "{words:?}: {err}");
    }
}
