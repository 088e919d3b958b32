//! Passwords at the proxy: its configuration asks for one from clients that want a session, and from no others.

use std::fs;

use crate::harness::{Curl, Front, Kind, Payload};

/// The edits that uncomment the commented lines of a configuration, except those of plain text.
fn uncommented(kind: Kind) -> Vec<(String, String)> {
    let text = match kind {
        Kind::Nginx => include_str!("../../../../conf/proxies/nginx.conf"),
        _ => include_str!("../../../../conf/proxies/haproxy.cfg"),
    };
    let lines = text.lines().filter(|line| {
        let bare = line.trim_start().strip_prefix('#').unwrap_or_default();
        bare.starts_with(|it: char| it.is_ascii_alphabetic() || it == '}')
            || (line.starts_with("#    ") && !bare.trim_start().starts_with("trusted_proxies"))
    });
    lines
        .map(|line| (format!("\n{line}\n"), format!("\n{}\n", line.replacen('#', "", 1))))
        .collect()
}

pub(super) fn a_password_is_for_who_asks_for_a_session(kind: Kind) {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    fs::write(&users, "alice:{PLAIN}wonderland\n").unwrap();
    let mut edits = uncommented(kind);
    assert!(edits.len() >= 5, "{edits:?}");
    edits.push(match kind {
        Kind::Nginx => ("/etc/nginx/idontstore.htpasswd".to_owned(), users.display().to_string()),
        _ => {
            let hashed = "password $5$SALT$HASH";
            (hashed.to_owned(), "insecure-password wonderland".to_owned())
        }
    });
    let edits: Vec<_> = edits.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let front = Front::edited(kind, &[], &edits);
    // `alice:wonderland`, and another password.
    let (right, wrong) = ("Basic YWxpY2U6d29uZGVybGFuZA==", "Basic YWxpY2U6dw==");
    let ask = |method: &str, path: &str, password: Option<&str>| {
        let fields: Vec<_> = password.map(|it| ("Authorization", it)).into_iter().collect();
        front.connect().request(method, path, &fields).read_response()
    };
    for (method, path) in
        [("POST", "/"), ("POST", "/?x"), ("PUT", "/session"), ("PUT", "/session?timeout=9")]
    {
        for password in [None, Some(wrong)] {
            let refused = ask(method, path, password);
            assert_eq!(refused.status(), 401, "{method} {path}: {:#?}", refused.head);
            assert!(
                refused.head.must("WWW-Authenticate").starts_with("Basic realm=\"idontstore\"")
            );
        }
        assert_eq!(ask(method, path, Some(right)).status(), 201, "{method} {path}");
    }
    assert_eq!(ask("GET", "/", None).status(), 200);
    // A target without a path is the root.
    let mut raw = front.connect();
    raw.send(format!("POST https://{} HTTP/1.1\r\nHost: {0}\r\n\r\n", front.address).as_bytes());
    assert_eq!(raw.read_response().status(), 401);
    let issued = ask("POST", "/", Some(right));
    let url = issued.head.must("Location").to_owned();
    let (file, got) = (front.path("payload"), front.path("got"));
    let payload = Payload::new(3, 100_000);
    payload.write_file(&file);
    let receiver = Curl::new("-fsS -o").arg(&got).arg(&url).start();
    Curl::new("-sS --fail-with-body -F")
        .arg(format!("file=@{}", file.display()))
        .arg(&url)
        .run()
        .expect(0);
    receiver.finish().expect(0);
    payload.assert_file(&got);
}
