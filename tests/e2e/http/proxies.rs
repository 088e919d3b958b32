//! The relay behind real reverse proxies, each with the configuration in `conf/proxies`: every promise of the relay to
//! its clients holds through them. `docs/proxies.md` names the exceptions, which are shown here.
//!
//! Not run again over HTTPS: the proxies of these tests speak TLS or not.

mod messages;
mod passwords;

use std::fs::{self, File};
use std::time::Duration;

use messages::{a_message_that_is_cut_says_so, messages_pass_both_ways_at_once};
use passwords::a_password_is_for_who_asks_for_a_session;

use crate::harness::{
    Curl, Ending, Front, Kind, Payload, Piece, Raw, Segment, Session, Shape, eventually,
    form_around, stays, tcp_timer,
};

/// All of these tests, for each proxy.
macro_rules! behind {
    ([$($name:ident: $kind:ident,)*] $tests:tt) => {
        $(behind! { @one $name $kind $tests })*
    };
    (@one $name:ident $kind:ident { $($test:ident,)* }) => {
        mod $name {
            use crate::harness::Kind;

            $(#[test]
            fn $test() {
                super::$test(Kind::$kind);
            })*
        }
    };
}

behind! {
    [nginx: Nginx, haproxy: Haproxy, haproxy_tcp: HaproxyTcp,]
    {
        curl_passes_files_in_either_order,
        urls_cookies_and_limits_are_the_clients,
        bytes_go_through_as_they_come,
        a_message_that_is_cut_says_so,
        a_client_whose_line_is_lost_is_asked_after,
        a_body_is_kept_nowhere,
        a_receiver_that_leaves_is_told_of,
        a_sender_that_leaves_cuts_its_receiver,
        who_waits_and_leaves_frees_its_place,
        a_sender_is_told_at_once_that_the_place_is_taken,
        a_sender_is_told_that_its_body_is_too_large,
        a_sender_that_expects_100_waits_for_its_receiver_or_not,
        messages_pass_both_ways_at_once,
        answers_of_the_relay_come_as_they_are,
        the_time_outs_are_those_of_the_file,
    }
}

// The other tests do not hold for Apache; docs/proxies.md says why.
behind! {
    [apache: Apache,]
    {
        curl_passes_files_in_either_order,
        urls_cookies_and_limits_are_the_clients,
        bytes_go_through_as_they_come,
        a_body_is_kept_nowhere,
        a_sender_that_leaves_cuts_its_receiver,
        a_sender_that_expects_100_waits_for_its_receiver_or_not,
        messages_pass_both_ways_at_once,
        answers_of_the_relay_come_as_they_are,
        the_time_outs_are_those_of_the_file,
    }
}

behind! {
    [nginx_with_passwords: Nginx, haproxy_with_passwords: Haproxy,]
    {
        a_password_is_for_who_asks_for_a_session,
    }
}

/// How much a proxy and the kernels' buffers around it and the relay may hold of a body that nobody reads.
const HELD_BYTES_MAX: u64 = 32 << 20;
/// Memory that a proxy may need for a large body, beyond its need for none.
const GROWTH_KIB_MAX: u64 = 16 << 10;

/// A socket's timer of that kind, as `/proc/net/tcp` has it.
const KEEP_ALIVE: u8 = 2;

fn segment(front: &Front) -> Segment {
    front.relay.segment()
}

fn curl_passes_files_in_either_order(kind: Kind) {
    let front = Front::new(kind, &[]);
    let segment = segment(&front);
    let payload = Payload::new(1, 3 << 20);
    payload.write_file(&front.path("a b.bin"));
    fs::write(front.path("empty.bin"), "").unwrap();
    for receiver_is_first in [true, false] {
        for (send, name) in [
            ("-T", Some("a b.bin")),
            ("-F", Some("a b.bin")),
            ("-T", None),
            ("-T", Some("empty.bin")),
        ] {
            let session = front.session();
            let got = front.path("got");
            fs::create_dir(&got).unwrap();
            let receive = || {
                let curl = Curl::new("-fsSOJ").arg(&session.url).within(&got);
                curl.start()
            };
            let send = || {
                let curl = Curl::new("-sS --fail-with-body").arg(send);
                let curl = match (send, name) {
                    ("-F", Some(name)) => curl.arg(format!("file=@\"{name}\"")).arg(&session.url),
                    (_, Some(name)) => curl.arg(name).arg(format!("{}/", session.url)),
                    (_, None) => {
                        let input = File::open(front.path("a b.bin")).unwrap();
                        curl.arg("-").arg(&session.url).stdin(input)
                    }
                };
                curl.within(front.directory()).start()
            };
            let (receiver, sender) = if receiver_is_first {
                let receiver = receive();
                segment.wait_until_held(1);
                (receiver, send())
            } else {
                let sender = send();
                segment.wait_until_held(1);
                (receive(), sender)
            };
            let report = sender.finish().expect(0);
            receiver.finish().expect(0);
            let expected =
                if name == Some("empty.bin") { Payload::new(1, 0) } else { payload.clone() };
            assert_eq!(report.text(), format!("delivered {} bytes\n", expected.len()));
            expected.assert_file(&got.join(name.unwrap_or(&session.key)));
            fs::remove_dir_all(&got).unwrap();
        }
    }
}

fn urls_cookies_and_limits_are_the_clients(kind: Kind) {
    let front = Front::new(kind, &["limits.sessions_per_address_max = 1"]);
    let lies = [
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "liar.example"),
    ];
    let ask = |client: &str| {
        let mut raw = Raw::connect_from(client.parse().unwrap(), front.address);
        raw.request("POST", "/", &lies).read_response()
    };
    for client in ["127.0.0.5", "127.0.0.6"] {
        let answer = ask(client).expect(201);
        assert!(answer.head.must("Location").starts_with(&front.origin()), "{:?}", answer.head);
        assert!(answer.head.must("Set-Cookie").contains("; Secure"), "{:?}", answer.head);
        let log = front.relay.errors();
        assert!(log.trim_end().ends_with(&format!("client={client}")), "{log}");
        assert_eq!(ask(client).status(), 429, "it has one");
    }
    let usage = Raw::connect(front.address).get("/").read_response().expect(200);
    assert!(usage.text().contains(&front.origin()), "{}", usage.text());
}

fn bytes_go_through_as_they_come(kind: Kind) {
    let front = Front::new(kind, &[]);
    for field in [("Content-Length", "15"), ("Transfer-Encoding", "chunked")] {
        let session = front.session();
        let (mut receiver, mut sender) = (front.connect(), front.connect());
        receiver.get(&session.path);
        sender.request("PUT", &session.path, &[field]);
        let is_chunked = field.1 == "chunked";
        let mut put = |bytes: &[u8]| match is_chunked {
            true => sender.send_chunk(bytes),
            false => sender.send(bytes),
        };
        put(b"hello");
        let head = receiver.read_head();
        assert_eq!(head.status, 200);
        let mut body = receiver.body_of(&head).unwrap();
        let mut take = |wanted: &[u8]| {
            let mut got = Vec::new();
            while got.len() < wanted.len() {
                let mut room = vec![0; wanted.len() - got.len()];
                match receiver.read_piece(&mut body, &mut room) {
                    Piece::Bytes(n) => got.extend_from_slice(&room[..n]),
                    end => panic!("{end:?} after {got:?}"),
                }
            }
            assert_eq!(got, wanted);
        };
        take(b"hello");
        put(b"again");
        take(b"again");
        put(b"ended");
        take(b"ended");
        if is_chunked {
            sender.send_last_chunk();
        }
        sender.read_response().expect(200);
        let end = receiver.read_piece(&mut body, &mut [0; 1]);
        assert_eq!(end, Piece::End(Ending::Complete));
    }
}

fn a_client_whose_line_is_lost_is_asked_after(kind: Kind) {
    let front = Front::new(kind, &[]);
    let mut receiver = front.connect();
    receiver.get(&front.session().path);
    segment(&front).wait_until_held(1);
    eventually("the proxy's kernel will ask within half a minute", || {
        let timer = tcp_timer(front.address, receiver.local_addr())?;
        (timer.kind == KEEP_ALIVE && timer.hundredths <= 3000).then_some(())
    });
}

fn a_body_is_kept_nowhere(kind: Kind) {
    let front = Front::new(kind, &[]);
    front.session().transfer(&Payload::new(1, 1 << 20), Shape::Length);
    let before_kib = front.memory_kib();
    for shape in [Shape::Length, Shape::Chunked(50_000)] {
        let payload = Payload::new(2, 64 << 20);
        let session = front.session();
        let (mut receiver, segment) = (front.connect(), segment(&front));
        receiver.get(&session.path);
        let read = segment.sum().bytes_in;
        let sending = session.sender(&payload, shape);
        let head = receiver.read_head();
        let taken =
            stays("it stalls", Duration::from_millis(500), || segment.sum().bytes_in - read);
        assert!(taken < HELD_BYTES_MAX, "the relay has taken {taken} bytes");
        assert!(!sending.is_finished());
        let most_kib = front.memory_kib();
        assert!(front.spooled().is_empty(), "{:?}", front.spooled());
        let (mut bytes, mut difference) = (0, None);
        let ending = receiver.read_body(&head, |piece| {
            difference = difference.or_else(|| payload.first_difference(bytes, piece));
            bytes += piece.len() as u64;
        });
        assert_eq!((bytes, difference, ending), (payload.len(), None, Ending::Complete));
        assert_eq!(sending.join().unwrap().expect(200).head.delivered_bytes(), payload.len());
        let most_kib = most_kib.max(front.memory_kib());
        assert!(most_kib < before_kib + GROWTH_KIB_MAX, "{before_kib} KiB before, {most_kib} then");
    }
    assert!(!front.errors().contains("buffered to a temporary file"), "{}", front.errors());
}

fn a_receiver_that_leaves_is_told_of(kind: Kind) {
    let front = Front::new(kind, &[]);
    let segment = segment(&front);
    for depart in [drop as fn(Raw), Raw::reset] {
        let payload = Payload::new(3, 64 << 20);
        let session = front.session();
        let mut receiver = front.connect();
        receiver.get(&session.path);
        let sending = session.sender(&payload, Shape::Length);
        receiver.read_checked_part(&payload, 1 << 20);
        depart(receiver);
        let answer = sending.join().unwrap().expect(502);
        assert!(answer.head.delivered_bytes() < payload.len());
        segment.wait_until_held(0);
        // The same key serves another try.
        session.transfer(&Payload::new(4, 100_000), Shape::Length);
    }
}

fn a_sender_that_leaves_cuts_its_receiver(kind: Kind) {
    let front = Front::new(kind, &[]);
    let payload = Payload::new(5, 2 << 20);
    for shape in [Shape::Length, Shape::Chunked(30_000), Shape::Form] {
        for depart in [drop as fn(Raw), Raw::reset] {
            let session = front.session();
            let receiving = session.receiver(&payload);
            let segment = segment(&front);
            let before = segment.sum().bytes_out;
            let mut sender = front.connect();
            send_part(&mut sender, &session, &payload, shape);
            // A receiver that has had no byte of it would go on waiting.
            eventually("some of it is through", || {
                (segment.sum().bytes_out > before).then_some(())
            });
            depart(sender);
            receiving.join().unwrap().expect_cut();
            session.transfer(&payload, shape);
        }
    }
}

/// A request whose head promises the whole payload, or nothing, and that brings a part of it.
fn send_part(sender: &mut Raw, session: &Session, payload: &Payload, shape: Shape) {
    let part = &payload.bytes()[..1 << 20];
    match shape {
        Shape::Length => {
            let length = payload.len().to_string();
            sender.request("PUT", &session.path, &[("Content-Length", &length)]).send(part);
        }
        Shape::Chunked(_) => {
            sender.request("PUT", &session.path, &[("Transfer-Encoding", "chunked")]);
            sender.send_chunk(part);
        }
        Shape::Form => {
            let (before, _) = form_around("a", "text/plain");
            let boundary = before.lines().next().unwrap().strip_prefix("--").unwrap();
            let kind = format!("multipart/form-data; boundary={boundary}");
            let fields = [("Content-Type", kind.as_str()), ("Content-Length", "3000000")];
            sender.request("POST", &session.path, &fields);
            sender.send(before.as_bytes());
            sender.send(part);
        }
    }
}

fn who_waits_and_leaves_frees_its_place(kind: Kind) {
    let front = Front::new(kind, &[]);
    let segment = segment(&front);
    let session = front.session();
    for depart in [drop as fn(Raw), Raw::reset] {
        let mut receiver = front.connect();
        receiver.get(&session.path);
        segment.wait_until_held(1);
        depart(receiver);
        segment.wait_until_held(0);
        for field in [("Content-Length", "100"), ("Transfer-Encoding", "chunked")] {
            let mut sender = front.connect();
            sender.request("PUT", &session.path, &[field]);
            segment.wait_until_held(1);
            depart(sender);
            segment.wait_until_held(0);
        }
    }
    session.transfer(&Payload::new(6, 100_000), Shape::Form);
}

/// The ways to send a large body: with a length and with none, with `Expect: 100-continue` and without.
const WAYS: [&str; 5] =
    ["-T large", "-T large -H Expect:", "-T -", "-T - -H Expect:", "-F file=@large"];

/// Sends `large` to `session` by curl, which is refused in the middle of it; checks what curl says.
#[track_caller]
fn send_in_vain(front: &Front, session: &Session, way: &str, status: &str) {
    let curl = Curl::new(&format!("-sS --fail-with-body {way}")).arg(&session.url);
    let input = File::open(front.path("large")).unwrap();
    let refused = curl.within(front.directory()).stdin(input).run();
    assert!(refused.code == 22 && refused.stderr.contains(status), "{way}: {refused:?}");
    assert!(refused.text().lines().count() == 1, "{way}: {refused:?}");
}

fn a_sender_is_told_at_once_that_the_place_is_taken(kind: Kind) {
    let front = Front::new(kind, &[]);
    Payload::new(7, 64 << 20).write_file(&front.path("large"));
    for way in WAYS {
        let session = front.session();
        let mut holder = front.connect();
        holder.request("PUT", &session.path, &[("Content-Length", "5")]);
        segment(&front).wait_until_held(1);
        send_in_vain(&front, &session, way, "409");
        holder.send(b"hello");
        front.connect().get(&session.path).read_response().expect(200);
        holder.read_response().expect(200);
    }
}

fn a_sender_is_told_that_its_body_is_too_large(kind: Kind) {
    // More than a lane holds: the receiver has heard of a body that turns out to be too large.
    let front = Front::new(kind, &["limits.body_bytes_max = \"8MiB\""]);
    let large = Payload::new(7, 64 << 20);
    large.write_file(&front.path("large"));
    for way in WAYS {
        let session = front.session();
        let receiving = session.receiver(&large);
        segment(&front).wait_until_held(1);
        send_in_vain(&front, &session, way, "413");
        if way.starts_with("-T -") {
            receiving.join().unwrap().expect_cut();
        } else {
            // The body's length said so, and the receiver has had no byte of it.
            front.connect().put(&session.path, &large.at(0)[..10]).read_response().expect(200);
            assert_eq!(receiving.join().unwrap().bytes, 10);
        }
    }
}

fn a_sender_that_expects_100_waits_for_its_receiver_or_not(kind: Kind) {
    let front = Front::new(kind, &[]);
    let session = front.session();
    let mut sender = front.connect();
    let fields = [("Content-Length", "5"), ("Expect", "100-continue")];
    sender.request("PUT", &session.path, &fields);
    segment(&front).wait_until_held(1);
    let mut receiver = front.connect();
    receiver.get(&session.path);
    // nginx sends the `100` by itself, before there is a receiver; HAProxy leaves it to the relay.
    sender.read_continue();
    sender.send(b"hello");
    let answer = sender.read_response().expect(200);
    assert_eq!((answer.interim.len(), answer.head.delivered_bytes()), (0, 5));
    assert_eq!(receiver.read_response().expect(200).text(), "hello");
}

fn answers_of_the_relay_come_as_they_are(kind: Kind) {
    let front = Front::new(kind, &["timeouts.wait_timeout = \"1s\""]);
    let unknown = format!("/{}", "A".repeat(28));
    let mut raw = front.connect();
    let answer = raw.get(&unknown).read_response().expect(404);
    assert!(answer.head.must("Content-Type").starts_with("text/plain"), "{:?}", answer.head);
    assert_eq!(answer.text().matches('\n').count(), 1);
    let session = front.session();
    front.connect().get(&session.path).read_response().expect(504);
    front.connect().put(&session.path, b"hello").read_response().expect(504);
    let deep = front.session();
    front.connect().request("HEAD", &deep.path, &[]).read_response().expect(200);
    let mut receiver = front.connect();
    receiver.get(&deep.path);
    segment(&front).wait_until_held(1);
    front
        .connect()
        .put(&format!("{}/a%20name.txt", deep.path), b"hello")
        .read_response()
        .expect(200);
    let head = receiver.read_response().expect(200).head;
    assert!(head.must("Content-Disposition").contains("a name.txt"), "{head:?}");
    for (name, value) in [
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
        ("Content-Length", "5"),
    ] {
        assert_eq!(head.must(name), value);
    }
    assert_eq!(head.field("Content-Encoding"), None);
}

/// The proxies' own default is a minute, so a test in which no connection is cut proves little. This test shows which
/// words in the file decide: with a second in their place, silent connections are cut.
fn the_time_outs_are_those_of_the_file(kind: Kind) {
    const SPAN: Duration = Duration::from_secs(3);
    let words = if kind == Kind::Apache { ("90000", "1") } else { ("25h", "1s") };
    let edited = Front::edited(kind, &[], &[words]);
    for (front, is_cut) in [(Front::new(kind, &[]), false), (edited, true)] {
        let [alone, lonely, stalled] = [front.session(), front.session(), front.session()];
        let mut receiver = front.connect();
        receiver.get(&alone.path);
        let mut sender = front.connect();
        sender.request("PUT", &lonely.path, &[("Content-Length", "5")]).send(b"hello");
        let mut slow = front.connect();
        let mut patient = front.connect();
        patient.get(&stalled.path);
        slow.request("PUT", &stalled.path, &[("Content-Length", "10")]).send(b"hello");
        let head = patient.read_head();
        if is_cut {
            eventually("all are cut", || (segment(&front).places_held() == 0).then_some(()));
            continue;
        }
        receiver.expect_silence(SPAN);
        front.connect().put(&alone.path, b"hello").read_response().expect(200);
        assert_eq!(receiver.read_response().expect(200).text(), "hello");
        assert_eq!(front.connect().get(&lonely.path).read_response().expect(200).text(), "hello");
        sender.read_response().expect(200);
        slow.send(b"world");
        assert_eq!(patient.read_body(&head, |_| ()), Ending::Complete);
        slow.read_response().expect(200);
    }
}
