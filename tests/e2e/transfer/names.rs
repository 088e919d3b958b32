//! File names as programs save them, and the text behind a session's key or in its place: a name, nothing, or the guess
//! of a user who has not asked for a session yet.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use protocols::over_both;

use crate::harness::{Curl, Payload, Relay, Shape, trusted_by_curl};

/// Names as the sender has them, and as programs save them.
const NAMES: [(&str, &str); 6] = [
    ("Bericht f\u{fc}r M\u{e4}rz.pdf", "Bericht f\u{fc}r M\u{e4}rz.pdf"),
    // The second byte of this name is a line end to programs that read ISO-8859-1.
    (
        "\u{c5}ngstr\u{f6}m \u{2026} \u{65e5}\u{672c} \u{1f600}.txt",
        "\u{c5}ngstr\u{f6}m \u{2026} \u{65e5}\u{672c} \u{1f600}.txt",
    ),
    ("it's 100% (1), a+b=c; #2 & $3~.tar.gz", "it's 100% (1), a+b=c; #2 & $3~.tar.gz"),
    ("-o", "-o"),
    // Names that clients would decode once more, and should not.
    ("%2e%2e%2f%2ebashrc", "_2e_2e_2f_2ebashrc"),
    ("..\\x\\.a\u{202e}b?.txt", "ab_.txt"),
];

/// `name` as the last segment of a URL.
fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Checks that the directory holds a file `name` with this content, and nothing else; removes the file.
fn expect_only(directory: &Path, name: &str, content: &str) {
    let names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names, [name]);
    let file = directory.join(name);
    assert_eq!(fs::read_to_string(&file).unwrap(), content);
    fs::remove_file(file).unwrap();
}

#[over_both]
fn curl_saves_a_file_under_its_name() {
    let relay = Relay::start();
    let out = relay.path("out");
    fs::create_dir(&out).unwrap();
    for (name, saved) in NAMES {
        for by_form in [false, true] {
            let session = relay.session();
            let receiving = Curl::new("-fsSOJ").arg(&session.url).within(&out).start();
            let sent = Curl::new("-sS --fail-with-body").within(relay.directory());
            fs::write(relay.path("sent"), name).unwrap();
            let sent = if by_form {
                // curl has its own way to write a name.
                let name = name.replace('\\', "\\\\");
                sent.arg("-F").arg(format!("file=@sent;filename=\"{name}\"")).arg(&session.url)
            } else {
                sent.arg("-T").arg("sent").arg(format!("{}/{}", session.url, encoded(name)))
            };
            sent.run().expect(0);
            receiving.finish().expect(0);
            expect_only(&out, saved, name);
        }
    }
}

#[over_both]
fn wget_saves_a_file_under_its_name() {
    let relay = Relay::start();
    let out = relay.path("out");
    fs::create_dir(&out).unwrap();
    for (name, saved) in NAMES {
        let session = relay.session();
        let mut wget = Command::new("wget");
        wget.args(["--no-config", "-q", "--no-proxy", "--tries=1", "--content-disposition"]);
        if let Some(certificate) = trusted_by_curl() {
            wget.arg("--ca-certificate").arg(certificate);
        }
        wget.env("LC_ALL", "C.UTF-8").current_dir(&out).stdin(Stdio::null()).arg(&session.url);
        let mut receiving = wget.spawn().expect("wget must be installed");
        relay
            .connect()
            .put(&format!("{}/{}", session.path, encoded(name)), b"x")
            .read_response()
            .expect(200);
        assert!(receiving.wait().unwrap().success());
        expect_only(&out, saved, "x");
    }
}

#[over_both]
fn a_name_behind_the_key_means_the_session_for_every_method() {
    let relay = Relay::start();
    for (suffix, saved) in
        [("/my%20file.txt", "my file.txt"), ("/x%2Fy", "y"), ("/%C3%A4", "\u{e4}")]
    {
        for method in ["POST", "PUT"] {
            let session = relay.session();
            let path = format!("{}{suffix}", session.path);
            relay.connect().request("HEAD", &path, &[]).read_response().expect(200);
            relay.connect().request("DELETE", &path, &[]).read_response().expect_error(403);
            let mut receiver = relay.connect();
            // The receiver may use any name.
            receiver.get(&format!("{}/other", session.path));
            let mut sender = relay.connect();
            sender.request(method, &path, &[("Content-Length", "2")]).send(b"hi");
            let answer = receiver.read_response().expect(200);
            assert_eq!(answer.body, b"hi");
            let disposition = answer.head.must("Content-Disposition");
            assert!(
                disposition.starts_with(&format!("attachment; filename=\"{saved}\";")),
                "{disposition}"
            );
            sender.read_response().expect(200);
            relay.connect().request("HEAD", &path, &[]).read_response().expect(404);
        }
    }
    let session = relay.session();
    let bearer = format!("Bearer {}", session.token);
    let path = format!("{}/name", session.path);
    let deleted =
        relay.connect().request("DELETE", &path, &[("Authorization", &bearer)]).read_response();
    deleted.expect(200);
    relay.connect().request("HEAD", &session.path, &[]).read_response().expect(404);
}

#[over_both]
fn a_name_in_the_body_or_head_goes_before_the_paths() {
    let relay = Relay::start();
    let form = "multipart/form-data; boundary=XX";
    let part = "--XX\r\nContent-Disposition: form-data; name=f; filename=\"part.txt\"\r\n\r\nhi\r\n--XX--\r\n";
    for (fields, body, name) in [
        ([("Content-Type", form), ("X-Receipt", "acked")], part, "part.txt"),
        (
            [("Content-Disposition", "x; filename=head.txt"), ("X-Receipt", "acked")],
            "hi",
            "head.txt",
        ),
        ([("Content-Type", "text/plain"), ("X-Receipt", "acked")], "hi", "path.txt"),
    ] {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let length = body.len().to_string();
        let fields = [&fields[..], &[("Content-Length", &length)]].concat();
        let mut sender = relay.connect();
        sender
            .request("POST", &format!("{}/path.txt", session.path), &fields)
            .send(body.as_bytes());
        let answer = receiver.read_response().expect(200);
        assert_eq!(answer.body, b"hi");
        let want = format!("attachment; filename=\"{name}\"; filename*=UTF-8''{name}");
        assert_eq!(answer.head.must("Content-Disposition"), want);
        sender.read_response().expect(200);
    }
}

#[over_both]
fn curl_receives_and_sends_by_a_name_behind_the_key() {
    let relay = Relay::start();
    fs::write(relay.path("mine.txt"), "hello").unwrap();
    let session = relay.session();
    let out = relay.path("out");
    fs::create_dir(&out).unwrap();
    let receiving =
        Curl::new("-fsSO").arg(format!("{}/theirs.txt", session.url)).within(&out).start();
    let sent = Curl::new("-sS --fail-with-body --data-binary @mine.txt");
    sent.arg(format!("{}/mine.txt", session.url)).within(relay.directory()).run().expect(0);
    receiving.finish().expect(0);
    expect_only(&out, "theirs.txt", "hello");
}

#[over_both]
fn a_file_sent_to_no_session_is_told_what_to_do() {
    let relay = Relay::start();
    fs::write(relay.path("f"), "hello").unwrap();
    fs::write(relay.path("robots.txt"), "hello").unwrap();
    let told = |status: &str, answer: &str| {
        for word in ["url=$(curl -fsSX POST ", &relay.url("/"), "-T FILE $url/"] {
            assert!(answer.contains(word), "{word} in {answer}");
        }
        assert!(answer.ends_with(status), "{status} for {answer}");
    };
    for (arguments, path, status) in [
        ("-T f", "/", "404"),
        ("-T f", "", "404"),
        ("-T f", "/some/where/", "404"),
        ("-T robots.txt", "/", "404"),
        ("-T -", "/", "405"),
        ("-F file=@f", "/", "400"),
        ("-F file=@f", "/f", "404"),
        ("--data-binary @f", "/f", "404"),
    ] {
        let sent = Curl::new("-sS --fail-with-body -w %{http_code}").within(relay.directory());
        let sent = arguments.split(' ').fold(sent, |curl, argument| curl.arg(argument));
        let sent = sent.stdin(fs::File::open(relay.path("f")).unwrap());
        told(status, sent.arg(relay.url(path)).run().expect(22).text());
    }
    let answer = relay.connect().put("/f", b"x").read_response().expect_error(404);
    assert_eq!(answer.head.field("Allow"), None);
    let answer = relay.connect().put("/", b"x").read_response().expect_error(405);
    assert_eq!(answer.head.must("Allow"), "GET, HEAD, POST");
}

#[over_both]
fn what_no_key_looks_like_is_no_guess() {
    let relay = Relay::with(1, &["limits.unknown_keys_per_second_max = 1"]);
    let session = relay.session();
    let key = &session.key;
    let mut raw = relay.connect();
    for round in 0..20 {
        for path in [
            "/favicon.ico",
            "/apple-touch-icon.png",
            "/.well-known/security.txt",
            "/x",
            "/session/x",
            "/session/x/y",
            &format!("/{}", &key[1..]),
            &format!("/{key}a"),
            &format!("/{}%41", &key[3..]),
            &format!("/{key}/a/b"),
            &format!("/AAAA{}//", &key[4..]),
        ] {
            let methods =
                if round == 0 { &["GET", "HEAD", "DELETE", "POST", "PUT"][..] } else { &["GET"] };
            for method in methods {
                let answer = raw.request(method, path, &[]).read_response();
                assert_eq!(answer.status(), 404, "{method} {path}");
            }
        }
        let robots = raw.get("/robots.txt").read_response().expect(200);
        assert_eq!(robots.text(), "User-agent: *\nDisallow: /\n");
        assert!(robots.head.must("Content-Type").starts_with("text/plain"));
    }
    assert!(raw.request("HEAD", "/robots.txt", &[]).read_response().expect(200).body.is_empty());
    for method in ["DELETE", "TRACE"] {
        let answer = raw.request(method, "/robots.txt", &[]).read_response().expect_error(405);
        assert_eq!(answer.head.must("Allow"), "GET, HEAD", "{method}");
    }
    // Only names in the form of a key count as guesses: the limit is one in a second.
    let never = format!("/{}", "A".repeat(key.len()));
    let guesses: Vec<_> = (0..40).map(|_| raw.get(&never).read_response().status()).collect();
    assert!(guesses.contains(&429), "{guesses:?}");
    session.transfer(&Payload::new(1, 10), Shape::Length);
}
