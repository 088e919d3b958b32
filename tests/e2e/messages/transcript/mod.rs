//! The transcript that cama's documentation gives of its API, replayed from its first section to its last: once over
//! bare sockets and once over curl with a cookie jar.
//!
//! Keys, tokens, dates, `Server` and the origin of this relay's URLs are masked. Three slips of the transcript are put
//! right: `Location` of a secure session was written `Localhost`, its cookie's name stood twice in the line, and the
//! cookie that takes the token back has the path that it needs for that. The wait of section 4 is 2 s, where the
//! transcript has 30.
//!
//! Where this program says more than cama did, the fields are listed apart, as `beyond`; either list is exact:
//! - `Cache-Control: no-store` and `X-Role`, the client's role, on every answer;
//! - `Max-Age` beside a cookie's `Expires`, and its path without quotes, which to a parser is the same;
//! - `X-Receipt` on a delivery report, and on one of a chunked message `X-Bytes-Delivered` too, beside cama's
//!   `X-Bytes-Relayed`, as cama uses both names for the one count;
//! - the host's cookie, renewed with each answer to its `GET` and `POST`, as cama's code did in part;
//! - on a relayed message, fields that keep a browser from running, sniffing or indexing it;
//! - `Trailer` on a chunked message, so that its trailer can say that the message is not whole;
//! - a line of text with errors;
//! - scheme and host in `Location`, where cama sent the path alone; the cookie's path is that path.

mod client;
mod curl;
mod sockets;

use std::collections::BTreeSet;

use client::{Answer, Body, Client, ENDLESS, Request, parsed};
use curl::OverCurl;
use protocols::over_both;
use sockets::OverSockets;

use crate::harness::Relay;

/// The mount that cama had.
const MOUNT: &str = "/cama/session";
const LOCATION: &str = "Location: ORIGIN/cama/session/KEY";
const COOKIE: &str = "Set-Cookie: token=\"TOKEN\"; Path=\"/cama/session/KEY\"; Expires=DATE";
const EXPIRED: &str = "Set-Cookie: token=\"\"; Path=\"/cama/session/KEY\"; Expires=DATE";
const EMPTY: &str = "Content-Length: 0";
const HOST: &str = "X-Role: host";
const GUEST: &str = "X-Role: guest";

/// The field that this program adds to every answer.
const ALWAYS: &str = "Cache-Control: no-store";
/// The fields that it adds to every message.
const RELAYED: [&str; 5] = [
    ALWAYS,
    "X-Content-Type-Options: nosniff",
    "Content-Security-Policy: sandbox; default-src 'none'",
    "Referrer-Policy: no-referrer",
    "X-Robots-Tag: none",
];
const ERROR: [&str; 4] = [
    ALWAYS,
    "Content-Type: text/plain; charset=utf-8",
    "Content-Length: COUNT",
    "Connection: close",
];

/// An answer as it must be: cama's fields, ours beyond them, and the body.
struct Expected<'e> {
    status: u16,
    cama: &'e [&'e str],
    beyond: &'e [&'e str],
    body: &'e [u8],
}

impl Expected<'_> {
    /// Panics unless the answer is this one and nothing else. `Date` and `Server` must be there.
    #[track_caller]
    fn check(&self, answer: &Answer) {
        let came: BTreeSet<_> = answer.masked_fields().into_iter().collect();
        let always = ["Date: DATE", "Server: SERVER"];
        let want = self.cama.iter().chain(self.beyond).chain(&always);
        assert_eq!((answer.head.status, came), (self.status, want.map(|it| parsed(it)).collect()));
        assert!(answer.body == self.body, "body {:?}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.trailer, []);
    }
}

/// A session of either kind, asked for as sections 1 and 7 do; the path of its location.
fn allocate(host: &mut impl Client, kind: Option<&str>) -> String {
    let fields: Vec<_> =
        kind.map(|kind| ("X-Type", kind)).into_iter().chain([("Content-Length", "0")]).collect();
    host.ask(&Request::new("PUT", MOUNT, &fields));
    let answer = host.answer();
    let kind = format!("X-Type: {}", kind.unwrap_or("basic"));
    let cama = [LOCATION, COOKIE, &kind, EMPTY];
    Expected { status: 201, cama: &cama, beyond: &[ALWAYS, HOST], body: b"" }.check(&answer);
    answer.head.token_cookie().expect("it was compared").path
}

fn get<'r>(location: &'r str) -> Request<'r> {
    Request::new("GET", location, &[("Content-Length", "0")])
}

/// Section 3, with the given roles: one waits for a message, the other sends it.
fn relay_hello(receiver: &mut impl Client, sender: &mut impl Client, location: &str, host: Host) {
    receiver.ask(&get(location));
    let text = [("Content-Type", "text/plain")];
    sender.ask(&Request::new("POST", location, &text).with(Body::Whole(b"Hello")));
    let cama = ["Content-Type: text/plain", "Content-Length: 5"];
    let beyond = [&RELAYED[..], host.cookie_if(Host::Receives)].concat();
    Expected { status: 200, cama: &cama, beyond: &beyond, body: b"Hello" }
        .check(&receiver.answer());
    let cama = [EMPTY, "X-Bytes-Delivered: 5"];
    let beyond = [&[ALWAYS, "X-Receipt: sent"], host.cookie_if(Host::Sends)].concat();
    Expected { status: 200, cama: &cama, beyond: &beyond, body: b"" }.check(&sender.answer());
}

/// Tells whether the host receives or sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    Receives,
    Sends,
}

impl Host {
    fn cookie_if(self, other: Self) -> &'static [&'static str] {
        if self == other { &[HOST, COOKIE] } else { &[GUEST] }
    }
}

/// Section 4: nobody sends.
fn time_out(guest: &mut impl Client, location: &str) {
    guest.ask(&Request::new("GET", location, &[("Content-Length", "0"), ("X-Timeout", "2")]));
    Expected { status: 504, cama: &[EMPTY], beyond: &[ALWAYS, GUEST], body: b"" }
        .check(&guest.answer());
}

/// Section 5: a message in three chunks.
fn relay_chunks(host: &mut impl Client, guest: &mut impl Client, location: &str) {
    let sizes = [0x138, 0x138, 0x4b];
    let pieces: Vec<_> = sizes.iter().zip(b"abc").map(|(size, byte)| vec![*byte; *size]).collect();
    let binary = [("Content-Type", "application/binary")];
    let body = Body::Chunks(pieces.iter().map(Vec::as_slice).collect());
    guest.ask(&Request::new("POST", location, &binary).with(body));
    host.ask(&get(location));
    let cama = ["X-Bytes-Relayed: 699", EMPTY];
    let beyond = [ALWAYS, GUEST, "X-Bytes-Delivered: 699", "X-Receipt: sent"];
    Expected { status: 200, cama: &cama, beyond: &beyond, body: b"" }.check(&guest.answer());
    let cama = ["Content-Type: application/binary", "Transfer-Encoding: chunked"];
    let beyond = [&RELAYED[..], &["Trailer: X-Transfer-Status", HOST, COOKIE]].concat();
    let body = pieces.concat();
    Expected { status: 200, cama: &cama, beyond: &beyond, body: &body }.check(&host.answer());
}

/// Section 6: one party leaves in the midst of a chunked message.
fn lose_one<C: Client>(relay: &Relay, host: &mut C, location: &str) {
    let binary = [("Content-Type", "application/binary")];
    let endless = || Request::new("POST", location, &binary).with(Body::Endless);

    let (mut receiver, sender) = (C::guest(relay), &mut *host);
    receiver.ask(&get(location));
    sender.ask(&endless());
    let read_bytes = receiver.read_some();
    receiver.leave();
    let answer = sender.answer();
    assert!(answer.head.delivered_bytes() >= read_bytes, "{:#?}", answer.head);
    let fields: BTreeSet<_> = answer.masked_fields().into_iter().collect();
    let want = ["Date: DATE", "Server: SERVER", "X-Bytes-Delivered: COUNT", "X-Receipt: acked"];
    let want = want.iter().chain(&ERROR).chain(&[HOST]);
    let want: BTreeSet<_> = want.map(|field| (*field).to_owned()).collect();
    assert_eq!((answer.head.status, fields), (502, want));

    let (receiver, mut sender) = (host, C::guest(relay));
    receiver.ask(&get(location));
    sender.ask(&endless());
    receiver.read_some();
    sender.leave();
    let answer = receiver.answer();
    let fields: BTreeSet<_> = answer.masked_fields().into_iter().collect();
    let want = ["Date: DATE", "Server: SERVER", "Content-Type: application/binary"];
    let more = ["Transfer-Encoding: chunked", "Trailer: X-Transfer-Status", HOST, COOKIE];
    let want = want.iter().chain(&more).chain(&RELAYED).map(|field| parsed(field));
    assert_eq!((answer.head.status, fields), (200, want.collect()));
    assert!(!answer.body.is_empty() && answer.body.iter().all(|byte| *byte == ENDLESS));
    let truncated = ("X-Transfer-Status".to_owned(), "truncated".to_owned());
    assert_eq!(answer.trailer, [truncated], "behind the last chunk");
}

/// Section 7: a session for one other address alone.
fn be_secure(host: &mut impl Client, guest: &mut impl Client) {
    let location = allocate(host, Some("secure"));
    guest.ask(&get(&location));
    assert_eq!(guest.answer().head.status, 403, "not permitted yet");
    let permit = [("X-Peer-Address", "127.0.0.1"), ("Content-Length", "0")];
    host.ask(&Request::new("PUT", &location, &permit));
    Expected { status: 200, cama: &[EMPTY], beyond: &[ALWAYS, HOST, COOKIE], body: b"" }
        .check(&host.answer());
    relay_hello(host, guest, &location, Host::Receives);
}

/// Section 8: the end, also of pending operations.
fn delete(host: &mut impl Client, guest: &mut impl Client, location: &str, relay: &Relay) {
    let segment = relay.segment();
    guest.ask(&get(location));
    segment.wait_until_held(1);
    host.ask(&Request::new("DELETE", location, &[("Content-Length", "0")]));
    Expected { status: 200, cama: &[EXPIRED, EMPTY], beyond: &[ALWAYS, HOST], body: b"" }
        .check(&host.answer());
    let gone = guest.answer();
    let fields: BTreeSet<_> = gone.masked_fields().into_iter().collect();
    // A request without a body left unread does not end its connection.
    let want = ["Date: DATE", "Server: SERVER", GUEST].iter().chain(&ERROR[..3]);
    assert_eq!((gone.head.status, fields), (410, want.map(|f| (*f).to_owned()).collect()));
    assert!(!host.has_cookie_for(location), "it was taken back");
}

fn replay<C: Client>() {
    let relay = Relay::with(2, &[&format!("messages.mount = \"{MOUNT}\"")]);
    let (mut host, mut guest) = (C::host(&relay), C::guest(&relay));
    let location = allocate(&mut host, None);
    assert!(host.has_cookie_for(&location) && !guest.has_cookie_for(&location));
    relay_hello(&mut host, &mut guest, &location, Host::Receives);
    relay_hello(&mut guest, &mut host, &location, Host::Sends);
    time_out(&mut guest, &location);
    relay_chunks(&mut host, &mut guest, &location);
    lose_one::<C>(&relay, &mut C::host_like(&relay, &host), &location);
    be_secure(&mut host, &mut guest);
    delete(&mut host, &mut guest, &location, &relay);
}

#[over_both]
fn over_bare_sockets() {
    replay::<OverSockets>();
}

#[over_both]
fn over_curl_with_a_cookie_jar() {
    replay::<OverCurl>();
}
