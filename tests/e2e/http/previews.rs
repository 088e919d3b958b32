//! Previews of links: a chat program that fetches one takes nothing from the people whom the link is for.

use protocols::over_both;

use crate::harness::{Curl, MOUNT, Payload, Raw, Relay, Response, Role, Shape};

/// Requests as previewers send them, beside `Host`.
const PREVIEWERS: [&[(&str, &str)]; 13] = [
    &[
        ("User-Agent", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip,deflate"),
        ("Range", "bytes=0-32768"),
        ("Connection", "close"),
    ],
    &[
        ("User-Agent", "Slack-ImgProxy 0.19 (+https://api.slack.com/robots)"),
        ("Accept", "*/*"),
        ("Range", "bytes=0-65535"),
    ],
    &[
        ("User-Agent", "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "deflate, gzip"),
        ("Range", "bytes=0-524287"),
    ],
    &[
        ("User-Agent", "WhatsApp/2.23.20.0 A"),
        ("Accept-Language", "en"),
        ("Accept-Encoding", "gzip"),
    ],
    // Signal.
    &[
        ("User-Agent", "WhatsApp/2"),
        ("Accept", "text/html,application/xhtml+xml"),
        ("Range", "bytes=0-"),
    ],
    &[
        ("User-Agent", "TelegramBot (like TwitterBot)"),
        ("Accept", "text/html,application/xhtml+xml"),
        ("Accept-Encoding", "gzip, deflate"),
    ],
    &[
        ("User-Agent", "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)"),
        ("Range", "bytes=0-524288"),
    ],
    &[("User-Agent", "Twitterbot/1.0"), ("Accept", "*/*")],
    &[(
        "User-Agent",
        "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    )],
    // Teams.
    &[(
        "User-Agent",
        "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
    )],
    // iMessage.
    &[(
        "User-Agent",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) \
         Version/9.0.1 Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0",
    )],
    &[("User-Agent", "Mozilla/4.0 (compatible; ms-office; MSOffice 16)")],
    &[
        ("User-Agent", "Synapse (bot; +https://github.com/matrix-org/synapse)"),
        ("Accept-Language", "en"),
    ],
];

/// Clients that are no previewers, though some words are the same.
const OTHERS: [&str; 5] = [
    "curl/8.5.0",
    "Wget/1.21.3",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
     Mobile/15E148 [FBAN/FBIOS;FBAV/400.0.0.0]",
    "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Mobile \
     Safari/537.36 Line/14.2.0/IAB",
];

fn expect_page(answer: Response, title: &str) {
    let answer = answer.expect(200);
    for (name, value) in [
        ("Content-Type", "text/html; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", "sandbox; default-src 'none'"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
        ("X-Robots-Tag", "none"),
    ] {
        assert_eq!(answer.head.must(name), value, "{name}");
    }
    let length: usize = answer.head.must("Content-Length").parse().unwrap();
    assert!(length == answer.body.len() && length < 1500, "{length}");
    for absent in ["Content-Disposition", "Content-Range", "Set-Cookie", "ETag"] {
        assert_eq!(answer.head.field(absent), None);
    }
    assert!(answer.text().contains(&format!("<title>{title}</title>")), "{}", answer.text());
}

const FILE: &str = "A file transfer waits behind this link";
const MESSAGES: &str = "Messages are exchanged behind this link";

#[over_both]
fn a_previewer_gets_a_page_and_takes_nothing() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    // There is no sender: a previewer waits for nobody, and takes no receiver's place.
    let looks = |suffix: &str| {
        for fields in PREVIEWERS {
            let mut raw = relay.connect();
            raw.request("HEAD", &session.path, fields).read_response().expect(200);
            let mut raw = relay.connect();
            let path = format!("{}{suffix}", session.path);
            expect_page(raw.request("GET", &path, fields).read_response(), FILE);
        }
    };
    looks("");
    let payload = Payload::new(1, 300_000);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "300000")]);
    relay.segment().wait_until_held(1);
    for suffix in ["", "/", "/name", "?x"] {
        looks(suffix);
    }
    let receiver = session.receiver(&payload);
    sender.send(&payload.bytes());
    receiver.join().unwrap().expect_all(&payload);
    sender.read_response().expect(200);
    // A previewer is told of a dead key as well, and so of a key that was never issued.
    let never = format!("/{}", "A".repeat(session.key.len()));
    for fields in &PREVIEWERS[..4] {
        for path in [&session.path, &never] {
            relay.connect().request("GET", path, fields).read_response().expect_error(404);
        }
    }
}

#[over_both]
fn a_previewer_that_guesses_is_limited_as_all_are() {
    let relay = Relay::with(1, &["limits.unknown_keys_per_second_max = 1"]);
    let session = relay.session();
    let never = format!("/{}", "A".repeat(session.key.len()));
    let mut raw = relay.connect();
    let mut ask = |path: &str| raw.request("GET", path, PREVIEWERS[2]).read_response();
    let told: Vec<_> = (0..40).map(|_| ask(&never).status()).collect();
    assert!(told.contains(&429) && told.iter().all(|it| matches!(it, 404 | 429)), "{told:?}");
    expect_page(ask(&session.path), FILE);
}

#[over_both]
fn other_clients_get_the_transfer() {
    let relay = Relay::start();
    for agent in OTHERS {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.request("GET", &session.path, &[("User-Agent", agent)]);
        relay.connect().put(&session.path, b"hello").read_response().expect(200);
        assert_eq!(receiver.read_response().expect(200).body, b"hello", "{agent}");
    }
    // The relay ignores a word far behind in a long `User-Agent`.
    let session = relay.session();
    let long = format!("{}Slackbot", "x".repeat(600));
    let mut receiver = relay.connect();
    receiver.request("GET", &session.path, &[("User-Agent", &long)]);
    relay.connect().put(&session.path, b"hello").read_response().expect(200);
    receiver.read_response().expect(200);
}

#[over_both]
fn a_previewer_of_messages_takes_none() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let mut host = session.host();
    host.post("text/plain", b"hello");
    for fields in PREVIEWERS {
        let answer = session.guest().ask("GET", fields).read_response();
        assert_eq!(answer.head.role(), Role::Guest);
        expect_page(answer, MESSAGES);
    }
    assert_eq!(session.guest().poll().read_response().expect(200).body, b"hello");
    host.expect_delivered(5);
    // A client with the token is no previewer, whatever it calls itself.
    let mut guest = session.guest();
    guest.post("text/plain", b"hello yourself");
    let answer = session.host().ask("GET", PREVIEWERS[0]).read_response().expect(200);
    assert_eq!(answer.body, b"hello yourself");
    guest.expect_delivered(14);
    // A previewer learns no more of a secure session than other clients.
    let secure = relay.message_session_by(MOUNT, &[("X-Type", "secure")]);
    secure.guest().ask("GET", PREVIEWERS[0]).read_response().expect_error(403);
}

#[over_both]
fn who_is_a_previewer_can_be_configured() {
    let relay = Relay::with(1, &["previewers = [\"My Own (Bot\"]"]);
    let receive = |fields: &[(&str, &str)]| -> Response {
        let session = relay.session();
        let mut receiver: Raw = relay.connect();
        receiver.request("GET", &session.path, fields);
        relay.connect().put(&session.path, b"hello").read_response().expect(200);
        receiver.read_response()
    };
    // The relay ignores the Range of this request, as anybody's.
    assert_eq!(receive(PREVIEWERS[0]).expect(200).body, b"hello");
    let session = relay.session();
    let mine = [("User-Agent", "the my OWN (bot 3")];
    expect_page(relay.connect().request("GET", &session.path, &mine).read_response(), FILE);
    relay.reload(1, &["previewers = []"]);
    assert_eq!(receive(&mine).expect(200).body, b"hello");
}

#[over_both]
fn curl_as_a_previewer_leaves_the_file_to_curl() {
    let relay = Relay::start();
    let session = relay.session();
    let payload = Payload::new(3, 100_000);
    payload.write_file(&relay.path("file"));
    let sending = Curl::new("-sS --fail-with-body -T file").arg(&session.url);
    let sending = sending.within(relay.directory()).start();
    relay.segment().wait_until_held(1);
    for range in ["-r 0-32768", "-L"] {
        let looked = Curl::new("-sSf --compressed -A TelegramBot").arg("-w").arg(" %{http_code}");
        let looked = range.split(' ').fold(looked, |curl, argument| curl.arg(argument));
        let looked = looked.arg(&session.url).run().expect(0);
        assert!(
            looked.text().contains(FILE) && looked.text().ends_with(" 200"),
            "{}",
            looked.text()
        );
    }
    Curl::new("-fsS -o got").arg(&session.url).within(relay.directory()).run().expect(0);
    sending.finish().expect(0);
    payload.assert_file(&relay.path("got"));
}

#[over_both]
fn a_sender_is_a_sender_whatever_it_calls_itself() {
    let relay = Relay::start();
    let session = relay.session();
    let payload = Payload::new(4, 10);
    let receiver = session.receiver(&payload);
    let fields = [("User-Agent", "WhatsApp/2"), ("Content-Length", "10")];
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &fields).send(&payload.bytes());
    sender.read_response().expect(200);
    receiver.join().unwrap().expect_all(&payload);
    relay.session().transfer(&payload, Shape::Form);
}
