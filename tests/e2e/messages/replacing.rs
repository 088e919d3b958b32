//! A client that was killed while it waited is replaced at once, through either API: no client gets a `409` because of a
//! dead one.

use std::net::Ipv4Addr;
use std::time::Duration;

use protocols::over_both;

use crate::harness::{
    Curl, MessageSession, Payload, Raw, Relay, Role, Segment, Session, eventually, stays,
    tcp_unread,
};

/// More than all buffers between two sockets hold.
const LARGE_BYTES: u64 = 64 << 20;

/// A lane of either API, as its two ends use it.
enum Lane {
    Exchange(Session),
    Messages(MessageSession, Role),
}

impl Lane {
    fn of_each(relay: &Relay) -> [Self; 3] {
        [
            Self::Exchange(relay.session()),
            Self::Messages(relay.message_session(), Role::Host),
            Self::Messages(relay.message_session(), Role::Guest),
        ]
    }

    fn receives(&self, raw: Raw) -> Raw {
        self.asks(raw, true, "GET", &[])
    }

    /// The head of a sender's request for so many bytes.
    fn sends(&self, raw: Raw, bytes: u64) -> Raw {
        self.asks(raw, false, "POST", &[("Content-Length", &bytes.to_string())])
    }

    fn says_hello(&self, raw: Raw) -> Raw {
        let mut sender = self.sends(raw, 5);
        sender.send(b"hello");
        sender
    }

    fn asks(&self, mut raw: Raw, receives: bool, method: &str, fields: &[(&str, &str)]) -> Raw {
        match self {
            Self::Exchange(session) => {
                raw.request(method, &session.path, fields);
                raw
            }
            Self::Messages(session, from) => {
                let mut party = session.party_on(if receives { from.other() } else { *from }, raw);
                party.ask(method, fields);
                party.into_raw()
            }
        }
    }

    /// curl's arguments for a sender.
    fn curl(&self, relay: &Relay) -> Curl {
        let curl = Curl::new("-sS -X POST -H Expect:").within(relay.directory());
        match self {
            Self::Exchange(session) => curl.arg(&session.url),
            Self::Messages(session, Role::Host) => {
                curl.arg("-b").arg(format!("token={}", session.token)).arg(relay.url(&session.path))
            }
            Self::Messages(session, Role::Guest) => curl.arg(relay.url(&session.path)),
        }
    }

    /// A whole message from a new sender to a receiver that already waits.
    #[track_caller]
    fn expect_passes_to(&self, relay: &Relay, mut receiver: Raw, body: &[u8]) {
        let mut sender = self.sends(relay.connect(), body.len() as u64);
        sender.send(body);
        assert_eq!(receiver.read_response().expect(200).body, body);
        sender.read_response().expect(200);
    }

    /// A new receiver gets the message of a sender that already waits.
    #[track_caller]
    fn expect_passes_from(&self, relay: &Relay, mut sender: Raw, body: &[u8]) {
        let mut receiver = self.receives(relay.connect());
        sender.read_response().expect(200);
        assert_eq!(receiver.read_response().expect(200).body, body);
    }
}

/// Lets a new client ask, on a new connection, for the place of a client that has just left; then waits until the relay
/// has closed the connection of the client that left.
fn replaced(relay: &Relay, segment: &Segment, ask: impl FnOnce(Raw) -> Raw) -> Raw {
    let accepted = segment.sum().accepted;
    let next = ask(relay.connect());
    eventually("only the new one is here", || {
        let now = segment.sum();
        (now.accepted > accepted && now.open == 1).then_some(())
    });
    next
}

/// Waits until no sender gets another byte to the relay: its body fills every buffer between them.
fn wait_until_stalled(relay: &Relay) {
    eventually("a body comes", || (tcp_unread(relay.address()) > 0).then_some(()));
    stays("it stalls", Duration::from_millis(300), || tcp_unread(relay.address()));
}

#[over_both]
fn a_waiting_receiver_that_is_gone_is_replaced() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for _ in 0..5 {
        for leave in Raw::DEPARTURES {
            for lane in Lane::of_each(&relay) {
                segment.wait_until_held(0);
                let gone = lane.receives(relay.connect());
                segment.wait_until_held(1);
                leave(gone);
                let receiver = replaced(&relay, &segment, |raw| lane.receives(raw));
                lane.expect_passes_to(&relay, receiver, b"hello");
            }
        }
    }
}

/// A connection to `worker`, made before the receiver that waited on worker 0 left.
fn after_a_receiver(relay: &Relay, lane: &Lane, worker: usize, leave: fn(Raw)) -> Raw {
    let segment = relay.segment();
    segment.wait_until_held(0);
    let next = relay.on_worker(worker, &segment, || relay.connect());
    let gone = relay.on_worker(0, &segment, || lane.receives(relay.connect()));
    segment.wait_until_held(1);
    leave(gone);
    next
}

#[over_both]
fn it_is_replaced_on_its_own_worker_and_on_another() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for worker in [0, 1] {
        for leave in Raw::DEPARTURES {
            for lane in Lane::of_each(&relay) {
                let receiver = lane.receives(after_a_receiver(&relay, &lane, worker, leave));
                eventually("only the new one is here", || (segment.sum().open == 1).then_some(()));
                lane.expect_passes_to(&relay, receiver, b"hello");
            }
        }
    }
}

#[over_both]
fn nothing_is_delivered_to_a_receiver_that_has_left() {
    let relay = Relay::with(2, &[]);
    for worker in [0, 1] {
        for leave in Raw::DEPARTURES {
            for lane in Lane::of_each(&relay) {
                let next = after_a_receiver(&relay, &lane, worker, leave);
                let mut sender = lane.sends(next, 5);
                sender.send(b"hello");
                let mut receiver = lane.receives(relay.connect());
                let answer = sender.read_response();
                if answer.status() == 502 && worker != 0 {
                    // The sender began before the other worker had seen the receiver leave, and its answer says so.
                    assert_eq!(answer.head.delivered_bytes(), 0);
                    lane.expect_passes_to(&relay, receiver, b"hello");
                } else {
                    answer.expect(200);
                    assert_eq!(receiver.read_response().expect(200).body, b"hello");
                }
            }
        }
    }
}

#[over_both]
fn a_waiting_sender_that_is_gone_is_replaced() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for leave in Raw::DEPARTURES {
        for sent in [&b""[..], b"gone", b"was gone"] {
            for lane in Lane::of_each(&relay) {
                segment.wait_until_held(0);
                let mut gone = lane.sends(relay.connect(), 8);
                gone.send(sent);
                segment.wait_until_held(1);
                leave(gone);
                let sender = replaced(&relay, &segment, |raw| lane.says_hello(raw));
                lane.expect_passes_from(&relay, sender, b"hello");
            }
        }
    }
}

#[over_both]
fn a_killed_curl_that_waits_is_replaced() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for lane in Lane::of_each(&relay) {
        segment.wait_until_held(0);
        let gone = lane.curl(&relay).arg("-d").arg("gone").start();
        segment.wait_until_held(1);
        gone.kill();
        let sender = replaced(&relay, &segment, |raw| lane.says_hello(raw));
        lane.expect_passes_from(&relay, sender, b"hello");
    }
}

#[over_both]
fn a_killed_curl_whose_body_fills_every_buffer_is_replaced() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    Payload::new(1, LARGE_BYTES).write_file(&relay.path("large"));
    for lane in Lane::of_each(&relay) {
        let gone = lane.curl(&relay).arg("-T").arg("large").start();
        segment.wait_until_held(1);
        wait_until_stalled(&relay);
        gone.kill();
        let sender = replaced(&relay, &segment, |raw| lane.says_hello(raw));
        lane.expect_passes_from(&relay, sender, b"hello");
        eventually("nothing is left", || (segment.sum().open == 0).then_some(()));
    }
}

/// A sender that is alive, whose body fills every buffer.
fn stalled(relay: &Relay, lane: &Lane) -> Raw {
    let mut sender = lane.sends(relay.connect(), LARGE_BYTES);
    sender.patience(Duration::from_millis(500));
    sender.try_send(&Payload::new(2, LARGE_BYTES).bytes()).expect_err("nobody reads it");
    sender
}

#[over_both]
fn one_with_an_unread_body_gives_way_to_the_same_address_and_is_told() {
    let relay = Relay::with(2, &[]);
    for lane in Lane::of_each(&relay) {
        let mut first = stalled(&relay, &lane);
        let mut second = lane.sends(relay.connect(), 5);
        second.send(b"hello");
        first.patience(Duration::from_secs(20));
        first.read_response().expect_error(409);
        lane.expect_passes_from(&relay, second, b"hello");
    }
}

#[over_both]
fn one_with_an_unread_body_gives_way_to_no_other_address() {
    let relay = Relay::with(2, &[]);
    for lane in Lane::of_each(&relay) {
        let mut first = stalled(&relay, &lane);
        let other = Raw::connect_from(Ipv4Addr::new(127, 0, 0, 9).into(), relay.address());
        let mut second = lane.sends(other, 5);
        second.send(b"hello");
        second.read_response().expect_error(409);
        assert!(!first.has_news(), "the first one waits on");
    }
}

/// A client has read a message before the relay knows of it. So the client's next poll, on another connection and worker,
/// finds its last one still in the place, and waits for it.
#[over_both]
fn a_receiver_that_has_it_all_polls_again_at_once_on_another_connection() {
    let relay = Relay::with(4, &[]);
    let session = relay.message_session();
    let level = [("X-Receipt", "acked"), ("Content-Length", "5")];
    let mut receiver = session.host();
    receiver.poll();
    for _ in 0..10 {
        // On a kept-alive connection the kernel delays its acknowledgements.
        for last in [false, false, true] {
            let mut sender = session.guest();
            sender.ask("POST", &level).send(b"hello");
            assert_eq!(receiver.read_response().expect(200).body, b"hello");
            let before = last.then(|| std::mem::replace(&mut receiver, session.host()));
            receiver.poll();
            sender.read_response().expect(200);
            drop(before);
        }
    }
}

/// The relay takes a waiting sender for dead only where a FIN might go unseen.
#[over_both]
fn one_whose_body_has_come_in_small_part_gives_way_to_nobody() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for lane in Lane::of_each(&relay) {
        for chunked in [true, false] {
            let mut first = if chunked {
                let fields = [("Transfer-Encoding", "chunked")];
                let mut first = lane.asks(relay.connect(), false, "POST", &fields);
                first.send(b"5\r\nfirst\r\n0\r\n\r\n");
                first
            } else {
                let mut first = lane.sends(relay.connect(), 10);
                first.send(b"part");
                first
            };
            segment.wait_until_held(1);
            let mut second = lane.sends(relay.connect(), 5);
            second.send(b"hello");
            second.read_response().expect_error(409);
            assert!(!first.has_news(), "the first one waits on");
            drop(first);
            segment.wait_until_held(0);
        }
    }
}
