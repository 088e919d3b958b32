//! `HEAD` of a session says which party waits in it, to clients that know its key, and disturbs no client.

use protocols::{over_both, over_http};

use crate::harness::{
    Curl, MOUNT, MessageSession, Party, Payload, Raw, Relay, Role, Session, Shape, eventually,
};

/// Returns the answer to `HEAD` of a session, on a connection of its own.
fn waiting(session: &Session) -> Option<String> {
    let answer = session.connect().request("HEAD", &session.path, &[]).read_response().expect(200);
    assert_eq!(answer.head.must("Cache-Control"), "no-store");
    // The relay does not know the answer to GET, so it must state neither field.
    assert_eq!(answer.head.field("Content-Length"), None, "{:?}", answer.head);
    assert_eq!(answer.head.field("Content-Type"), None, "{:?}", answer.head);
    answer.head.field("X-Waiting").map(str::to_owned)
}

#[track_caller]
fn expect_waiting(session: &Session, want: &str) {
    eventually(&format!("X-Waiting: {want}"), || {
        (waiting(session).as_deref() == Some(want)).then_some(())
    });
}

fn receiver(session: &Session) -> Raw {
    let mut receiver = session.connect();
    receiver.get(&session.path);
    receiver
}

#[over_both]
fn head_says_which_side_of_an_exchange_waits() {
    for workers in [1, 2] {
        let relay = Relay::with(workers, &[]);
        let session = relay.session();
        assert_eq!(waiting(&session).as_deref(), Some("none"));
        let waits = receiver(&session);
        expect_waiting(&session, "receiver");
        // `HEAD` takes no place and no bytes.
        assert_eq!([(); 3].map(|()| waiting(&session)), [(); 3].map(|()| Some("receiver".into())));
        drop(waits);
        expect_waiting(&session, "none");
        let mut sender = session.connect();
        sender.request("PUT", &session.path, &[("Content-Length", "5")]).send(b"hello");
        expect_waiting(&session, "sender");
        let mut late = receiver(&session);
        assert_eq!(late.read_response().expect(200).body, b"hello");
        sender.read_response().expect(200);
        session.connect().request("HEAD", &session.path, &[]).read_response().expect(404);
    }
}

#[over_both]
fn head_says_that_both_are_there_and_that_neither_is_after_a_cut() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut receiver = receiver(&session);
    let mut sender = session.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "10")]);
    expect_waiting(&session, "paired");
    sender.send(b"hello");
    let head = receiver.read_head();
    assert_eq!(waiting(&session).as_deref(), Some("paired"));
    drop(sender);
    receiver.read_body(&head, |_| ());
    expect_waiting(&session, "none");
    session.transfer(&Payload::new(1, 100), Shape::Length);
}

/// Returns the `X-Waiting` that `HEAD` gives a party.
fn told(session: &MessageSession, role: Role) -> String {
    let answer = session.party(role).ask("HEAD", &[]).read_response().expect(200);
    assert_eq!(answer.head.field("Content-Length"), None, "{:?}", answer.head);
    assert_eq!(answer.head.token_cookie().is_some(), role == Role::Host);
    answer.head.must("X-Waiting").to_owned()
}

#[track_caller]
fn expect_told(session: &MessageSession, role: Role, want: &str) {
    eventually(&format!("X-Waiting: {want}, for {role:?}"), || {
        (told(session, role) == want).then_some(())
    });
}

fn sender(session: &MessageSession, role: Role) -> Party {
    let mut sender = session.party(role);
    sender.post("text/plain", b"hello");
    sender
}

#[over_both]
fn head_says_to_each_party_how_the_other_waits() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    for role in Role::BOTH {
        let other = role.other();
        assert_eq!(told(&session, role), "none");
        let mut receives = session.party(role);
        receives.poll();
        expect_told(&session, other, "receiver");
        let mut sends = sender(&session, role);
        expect_told(&session, other, "sender, receiver");
        assert_eq!(told(&session, role), "none", "it knows of its own");
        let mut answers = sender(&session, other);
        assert_eq!(receives.read_response().expect(200).body, b"hello");
        answers.expect_delivered(5);
        expect_told(&session, other, "sender");
        assert_eq!(session.party(other).poll().read_response().expect(200).body, b"hello");
        sends.expect_delivered(5);
        expect_told(&session, other, "none");
    }
}

#[over_both]
fn head_says_nothing_to_who_may_not_use_the_session() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session_by(MOUNT, &[("X-Type", "secure")]);
    let mut host = session.host();
    host.poll();
    let permit = [("X-Peer-Address", "127.0.0.2")];
    session.host().ask("PUT", &permit).read_response().expect_empty(200);
    let answer = session.guest().ask("HEAD", &[]).read_response().expect(403);
    assert_eq!(answer.head.field("X-Waiting"), None);
    eventually("the guest is told", || {
        let mut guest = session.party_from(Role::Guest, [127, 0, 0, 2]);
        let answer = guest.ask("HEAD", &[]).read_response().expect(200);
        (answer.head.must("X-Waiting") == "receiver").then_some(())
    });
    let unknown = format!("/{}", "A".repeat(28));
    for path in [format!("{MOUNT}{unknown}"), unknown] {
        let answer = relay.connect().request("HEAD", &path, &[]).read_response().expect(404);
        assert_eq!(answer.head.field("X-Waiting"), None);
    }
}

#[over_http("TLS does not change requests and answers")]
fn curl_and_a_kept_connection_know_where_such_a_head_ends() {
    let relay = Relay::start();
    let session = relay.session();
    let mut waits = receiver(&session);
    expect_waiting(&session, "receiver");
    let curl = Curl::new("-fsS -o /dev/null -w %header{x-waiting}\\n --head").arg(&session.url);
    // The second request goes on the same connection.
    let curl = curl.arg("--next").arg("-fsS").arg("-w").arg("|%{num_connects}");
    let told = curl.arg("-T").arg("/etc/hostname").arg(&session.url).run().expect(0);
    let (first, rest) = told.text().split_once('\n').expect("a line");
    assert_eq!(first, "receiver");
    assert!(rest.ends_with("|0"), "{rest}");
    waits.read_response().expect(200);
    let mut raw = relay.connect();
    let path = relay.session().path;
    raw.send(format!("HEAD {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").as_bytes());
    assert_eq!(raw.read_head().must("Connection"), "keep-alive");
    raw.get("/").read_response().expect(200);
}
