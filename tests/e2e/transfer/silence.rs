//! Clients that stand still in the midst of a transfer: while there is room, such a client stays for `silence_timeout`,
//! and goes on without loss. If others need the room, the minimum rate ends the transfer.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use protocols::over_both;

use crate::harness::{
    Curl, Ending, Head, Payload, Raw, Relay, Response, RunningCurl, Session, Shape, eventually,
    send_payload, stays,
};

/// A minimum rate whose window is soon over, and a keep-alive that soon finds dead clients.
const HASTY: [&str; 5] = [
    "limits.rate_bytes_min = \"1KiB\"",
    "timeouts.rate_window = \"500ms\"",
    "timeouts.keepalive_idle = \"1s\"",
    "timeouts.keepalive_interval = \"1s\"",
    "limits.keepalive_probes_max = 1",
];
/// Longer than all of these.
const LONG: Duration = Duration::from_secs(4);
const PATIENT_UP_TO: &str = "limits.patience_connections_max = 8";
const SHORT_SILENCE: &str = "timeouts.silence_timeout = \"1s\"";

fn hasty_and(lines: &[&str]) -> Relay {
    Relay::with(2, &[&HASTY, lines].concat())
}

/// A sender that sends five bytes and no more, and its receiver, which has them.
fn pair_that_falls_silent(session: &Session) -> (Raw, Head, Raw) {
    let (mut receiver, mut sender) = (session.connect(), session.connect());
    receiver.get(&session.path);
    sender.request("PUT", &session.path, &[("Content-Length", "1000")]).send(b"hello");
    let head = receiver.read_head();
    assert_eq!(head.status, 200);
    assert_eq!(receiver.read_exactly(5), b"hello");
    (receiver, head, sender)
}

/// Panics unless the receiver sees that not all has come.
#[track_caller]
fn expect_cut(mut receiver: Raw, head: &Head) {
    assert_ne!(receiver.read_body(head, |_| ()), Ending::Complete);
}

/// A receiver that reads nothing of a large file, and its sender's answer.
fn pair_that_stalls(session: &Session) -> (Raw, JoinHandle<Response>) {
    let mut receiver = session.connect();
    receiver.get(&session.path);
    let (mut sender, path) = (session.connect(), session.path.clone());
    let sending = thread::spawn(move || {
        let _ = send_payload(&mut sender, &path, &Payload::new(2, 200 << 20), Shape::Length);
        sender.patience(Duration::from_secs(60));
        sender.read_response()
    });
    (receiver, sending)
}

/// Stops `curl` once `moved` counts something, and lets it go on after it stood still for long.
fn stop_for_long(curl: &RunningCurl, len: u64, mut moved: impl FnMut() -> u64) {
    eventually("bytes pass", || (moved() > 0).then_some(()));
    curl.signal(Signal::SIGSTOP);
    let bytes = stays("it stands still", LONG, &mut moved);
    assert!(bytes < len, "all {bytes} bytes had passed before it was stopped");
    curl.signal(Signal::SIGCONT);
}

/// Opens idle connections, more than `PATIENT_UP_TO` allows patience for.
fn crowd(relay: &Relay) -> Vec<Raw> {
    let mut crowd: Vec<_> = (0..12).map(|_| relay.connect()).collect();
    for raw in &mut crowd {
        raw.get("/").read_response().expect(200);
    }
    crowd
}

#[over_both]
fn a_curl_that_was_stopped_while_it_sent_arrives_whole() {
    let relay = hasty_and(&[]);
    let (session, segment) = (relay.session(), relay.segment());
    let payload = Payload::new(1, 30 << 20);
    let file = relay.path("file");
    payload.write_file(&file);
    let mut receiver = session.connect();
    receiver.patience(Duration::from_secs(60));
    receiver.get(&session.path);
    let receiving = thread::spawn({
        let payload = payload.clone();
        move || receiver.read_checked(&payload)
    });
    let arguments = "-sS --fail-with-body --limit-rate 8M -T";
    let curl = Curl::new(arguments).arg(&file).arg(&session.url).start();
    stop_for_long(&curl, payload.len(), || segment.sum().bytes_in);
    assert!(curl.finish().expect(0).text().starts_with("delivered 31457280 bytes"));
    receiving.join().unwrap().expect_all(&payload);
}

#[over_both]
fn a_curl_that_was_stopped_while_it_received_has_the_whole_file() {
    let relay = hasty_and(&[]);
    let (session, segment) = (relay.session(), relay.segment());
    let payload = Payload::new(2, 60 << 20);
    let file = relay.path("file");
    let curl = Curl::new("-fsS --limit-rate 8M -o").arg(&file).arg(&session.url).start();
    let (mut sender, path) = (session.connect(), session.path.clone());
    sender.patience(Duration::from_secs(60));
    let sending = thread::spawn({
        let payload = payload.clone();
        move || {
            send_payload(&mut sender, &path, &payload, Shape::Length).unwrap();
            sender.read_response()
        }
    });
    stop_for_long(&curl, payload.len(), || segment.sum().bytes_out);
    curl.finish().expect(0);
    payload.assert_file(&file);
    assert_eq!(sending.join().unwrap().expect(200).head.delivered_bytes(), payload.len());
}

#[over_both]
fn a_message_whose_sender_stands_still_goes_on() {
    let relay = hasty_and(&[]);
    let (session, segment) = (relay.message_session(), relay.segment());
    let (mut host, mut guest) = (session.host(), session.guest());
    guest.poll();
    host.post_in_chunks().send_chunk(b"hello");
    let mut message = guest.read_coming();
    message.expect(&mut guest, b"hello");
    assert_eq!(stays("it stands still", LONG, || segment.places_held()), 2);
    host.send_chunk(b" again");
    host.send_last_chunk();
    let (rest, ending, trailer) = message.rest(&mut guest);
    assert_eq!((rest, ending, trailer), (b" again".to_vec(), Ending::Complete, vec![]));
    host.expect_delivered(11);
}

#[over_both]
fn a_sender_that_is_silent_for_too_long_is_told_and_its_receiver_cut() {
    let relay = Relay::with(2, &[SHORT_SILENCE]);
    let (session, segment) = (relay.session(), relay.segment());
    let (receiver, head, mut sender) = pair_that_falls_silent(&session);
    let answer = sender.read_response().expect_error(408);
    assert!(answer.text().starts_with("the sender was silent for too long: "), "{}", answer.text());
    assert!(answer.head.delivered_bytes() <= 5 && answer.head.closes());
    expect_cut(receiver, &head);
    eventually("all is free", || {
        (segment.places_held() == 0 && segment.chunks_held() == 0).then_some(())
    });
    session.transfer(&Payload::new(3, 5000), Shape::Length);
}

#[over_both]
fn a_receiver_that_takes_nothing_for_too_long_is_cut_and_its_sender_told() {
    let relay = Relay::with(2, &[SHORT_SILENCE]);
    let (session, segment) = (relay.session(), relay.segment());
    let (receiver, sending) = pair_that_stalls(&session);
    sending.join().unwrap().expect_error(502);
    eventually("all is free", || {
        (segment.places_held() == 0 && segment.chunks_held() == 0).then_some(())
    });
    drop(receiver);
}

#[over_both]
fn who_moves_a_little_now_and_then_is_not_silent() {
    let relay = hasty_and(&["timeouts.silence_timeout = \"4s\""]);
    let session = relay.session();
    let (mut receiver, mut sender) = (session.connect(), session.connect());
    receiver.get(&session.path);
    sender.request("PUT", &session.path, &[("Content-Length", "12")]);
    for byte in b"0123456789ab" {
        sender.send(&[*byte]);
        thread::sleep(Duration::from_millis(500));
    }
    sender.read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).body, b"0123456789ab");
}

#[over_both]
fn a_silent_sender_is_cut_by_the_minimum_rate_once_many_connections_are_open() {
    let relay = hasty_and(&[PATIENT_UP_TO]);
    let (session, segment) = (relay.session(), relay.segment());
    let (receiver, head, mut sender) = pair_that_falls_silent(&session);
    assert_eq!(stays("there is room", LONG, || segment.places_held()), 2);
    let _crowd = crowd(&relay);
    let answer = sender.read_response().expect_error(408);
    assert!(answer.text().contains("others need the room"), "{}", answer.text());
    expect_cut(receiver, &head);
}

#[over_both]
fn a_receiver_that_stalls_is_cut_by_the_minimum_rate_once_many_connections_are_open() {
    let relay = hasty_and(&[PATIENT_UP_TO]);
    let (session, segment) = (relay.session(), relay.segment());
    let (_receiver, sending) = pair_that_stalls(&session);
    eventually("it has begun", || (segment.sum().bytes_out > 0).then_some(()));
    stays("there is room", LONG, || segment.sum().bytes_out);
    assert_eq!(segment.places_held(), 2);
    let _crowd = crowd(&relay);
    sending.join().unwrap().expect_error(502);
}

#[over_both]
fn who_trickles_is_cut_by_the_minimum_rate_once_many_connections_are_open() {
    let relay = hasty_and(&[PATIENT_UP_TO]);
    let session = relay.session();
    let (_receiver, _, mut sender) = pair_that_falls_silent(&session);
    // The sender is below the minimum rate, but never silent.
    for _ in 0..20 {
        sender.send(b"x");
        assert!(!sender.has_news(), "it was cut while there was room");
        thread::sleep(Duration::from_millis(100));
    }
    let _crowd = crowd(&relay);
    eventually("it is cut", || {
        let _ = sender.try_send(b"x");
        thread::sleep(Duration::from_millis(100));
        sender.has_news().then_some(())
    });
    sender.read_response().expect_error(408);
}

#[over_both]
fn a_silent_sender_is_cut_by_the_minimum_rate_once_somebody_finds_no_session() {
    let relay = hasty_and(&["memory.sessions_max = 1"]);
    let (session, segment) = (relay.session(), relay.segment());
    let (_receiver, _, mut sender) = pair_that_falls_silent(&session);
    assert_eq!(stays("there is room", LONG, || segment.places_held()), 2);
    let mut asker = relay.connect();
    eventually("it is cut", || {
        asker.request("POST", "/", &[]).read_response();
        sender.has_news().then_some(())
    });
    sender.read_response().expect_error(408);
}
