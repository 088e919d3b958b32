//! HTTPS as its users meet it: curl over both versions, HTTPS and HTTP in one session, the scheme in the answers to a
//! client, and the messages about a bad certificate in a configuration.

use std::fs;
use std::process::Command;
use std::thread;

use crate::harness::{
    BINARY, Certificate, Curl, MessageSession, Payload, Raw, Relay, Shape, send_payload,
};

/// A second listener, for plain HTTP.
const PLAIN: &str = "[[listener]]\naddress = \"127.0.0.1:0\"";

#[test]
fn curl_exchanges_files_over_both_versions() {
    let relay = Relay::https(2, &[]);
    let payload = Payload::new(1, 20 << 20);
    payload.write_file(&relay.path("file"));
    for version in ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3", "--tlsv1.3 --http1.0"] {
        for send in ["-T file", "-F f=@file", "-T - -H Expect:"] {
            // An unknown length takes HTTP/1.1.
            if version.contains("1.0") && !send.starts_with("-T file") {
                continue;
            }
            let session = relay.session();
            let receive = Curl::new(&format!("-fsS -o got {version}")).arg(&session.url);
            let receiving = receive.within(relay.directory()).start();
            let file = fs::File::open(relay.path("file")).unwrap();
            let sending = Curl::new(&format!("-sS --fail-with-body {send}")).arg(&session.url);
            let sent = sending.within(relay.directory()).stdin(file).run().expect(0);
            assert!(sent.text().contains(&payload.len().to_string()), "{}", sent.text());
            receiving.finish().expect(0);
            payload.assert_file(&relay.path("got"));
        }
    }
}

#[test]
fn http_and_https_meet_in_one_session() {
    let relay = Relay::https(2, &[PLAIN]);
    let plain = relay.listener(1);
    for shape in [Shape::Length, Shape::Chunked(10_000), Shape::Form] {
        for sender_is_plain in [false, true] {
            let session = relay.session();
            let payload = Payload::new(2, 3 << 20);
            let addresses = [relay.address(), plain];
            let [mut sender, mut receiver] = [sender_is_plain, !sender_is_plain]
                .map(|is_plain| Raw::connect(addresses[usize::from(is_plain)]));
            receiver.get(&session.path);
            let reading = thread::spawn({
                let payload = payload.clone();
                move || receiver.read_checked(&payload)
            });
            send_payload(&mut sender, &session.path, &payload, shape).unwrap();
            let answer = sender.read_response().expect(200);
            assert_eq!(answer.head.delivered_bytes(), payload.len());
            reading.join().unwrap().expect_all(&payload);
        }
    }
}

#[test]
fn messages_pass_both_ways() {
    let relay = Relay::https(2, &[]);
    let MessageSession { path, token, .. } = relay.message_session();
    let cookie = format!("token=\"{token}\"");
    let (mut host, mut guest) = (relay.connect(), relay.connect());
    for round in 0..20 {
        let message = format!("message {round}");
        let length = message.len().to_string();
        host.request("GET", &path, &[("Cookie", &cookie)]);
        guest.request("POST", &path, &[("Content-Length", &length)]).send(message.as_bytes());
        assert_eq!(host.read_response().expect(200).text(), message);
        guest.read_response().expect(200);
        guest.get(&path);
        let fields = [("Cookie", cookie.as_str()), ("Transfer-Encoding", "chunked")];
        host.request("POST", &path, &fields).send_chunk(message.as_bytes());
        host.send_last_chunk();
        assert_eq!(guest.read_response().expect(200).text(), message);
        host.read_response().expect(200);
    }
}

#[test]
fn what_is_given_out_is_for_https() {
    let relay = Relay::https(1, &[PLAIN]);
    let answer = relay.connect().request("POST", "/", &[]).read_response().expect(201);
    let url = answer.head.must("Location");
    assert!(url.starts_with(&format!("https://{}/", relay.address())), "{url}");
    assert!(answer.head.must("Set-Cookie").contains("; Secure"), "{:#?}", answer.head);
    let said = relay.wait_for_output("listening on https://");
    assert!(said.contains(&format!("listening on https://{}\n", relay.address())), "{said}");
    let plain = relay.listener(1);
    let answer = Raw::connect(plain).request("POST", "/", &[]).read_response().expect(201);
    assert!(answer.head.must("Location").starts_with("http://"), "{:#?}", answer.head);
    assert!(!answer.head.must("Set-Cookie").contains("Secure"), "{:#?}", answer.head);
}

#[test]
fn a_request_without_tls_is_told_so() {
    let relay = Relay::https(1, &[]);
    let mut raw = Raw::connect_plain(relay.address());
    let answer = raw.get("/").read_response().expect_error(400);
    assert!(answer.text().contains("HTTPS"), "{:?}", answer.text());
    assert!(answer.head.closes());
    raw.expect_close();
}

#[test]
fn what_is_in_force_names_the_files_from_anywhere() {
    let relay = Relay::https(1, &[]);
    let done = Command::new(BINARY).arg("-T").arg("-c").arg(relay.config_path()).output().unwrap();
    let dumped = String::from_utf8(done.stdout).unwrap();
    let file = relay.path("certificate.pem");
    assert!(dumped.contains(&format!("certificate = \"{}\"", file.display())), "{dumped}");
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("dumped.toml"), &dumped).unwrap();
    let again = Command::new(BINARY)
        .args(["-T", "-c", "dumped.toml"])
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), dumped);
}

/// Returns the exit code of `-t` for a configuration with these files, and its output.
fn tested(certificate: &str, key: &str) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("certificate.pem", certificate), ("key.pem", key)] {
        if !text.is_empty() {
            fs::write(directory.path().join(name), text).unwrap();
        }
    }
    let text = "[[listener]]\naddress = '127.0.0.1:0'\n[listener.tls]\n\
                certificate = 'certificate.pem'\nkey = 'key.pem'\n";
    let path = directory.path().join("test.toml");
    fs::write(&path, text).unwrap();
    let done = Command::new(BINARY).arg("-t").arg("-c").arg(&path).output().unwrap();
    (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn bad_files_are_named_with_their_line() {
    let Certificate { certificate, key, .. } = &Certificate::new();
    assert_eq!(tested(certificate, key), (0, String::new()));
    let other = Certificate::new();
    let cut = &certificate[..certificate.len() / 2];
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let chain = format!("{certificate}{garbage}");
    for (certificate, key, place, what) in [
        ("", key.as_str(), ":4:15", "cannot read it"),
        ("nothing", key, ":4:15", "no certificate"),
        (key, key, ":4:15", "no certificate"),
        (cut, key, ":4:15", "no END marker of its own"),
        (garbage, key, ":4:15", "certificate 1 is malformed"),
        (&chain, key, ":4:15", "certificate 2 is malformed"),
        (certificate, "", ":5:7", "cannot read it"),
        (certificate, certificate, ":5:7", "no private key"),
        (certificate, &other.key, ":5:7", "does not belong to the first certificate"),
    ] {
        let (code, said) = tested(certificate, key);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(place) && said.contains(what), "{place} {what}:\n{said}");
    }
}
