//! Both sides leaving at any moment: places come free at once, nothing leaks, and the next one starts at byte 0.

use std::thread;
use std::time::Duration;

use protocols::over_both;

use crate::harness::{Curl, Payload, Placement, Raw, Relay, Shape, Stopped, eventually};

#[over_both]
fn a_waiting_receiver_that_leaves_frees_its_place() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.session();
    for leave in Raw::DEPARTURES {
        let mut gone = relay.connect();
        gone.get(&session.path);
        segment.wait_until_held(1);
        leave(gone);
        segment.wait_until_held(0);
        relay.connect().request("HEAD", &session.path, &[]).read_response().expect(200);
    }
    session.transfer(&Payload::new(1, 500), Shape::Length);
}

#[over_both]
fn a_waiting_sender_that_leaves_frees_its_place() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.session();
    for leave in Raw::DEPARTURES {
        for body in [&b""[..], b"part", b"all of it."] {
            let mut gone = relay.connect();
            gone.request("PUT", &session.path, &[("Content-Length", "10")]).send(body);
            segment.wait_until_held(1);
            leave(gone);
            segment.wait_until_held(0);
        }
    }
    session.transfer(&Payload::new(2, 500), Shape::Length);
}

#[over_both]
fn a_sender_may_half_close_once_its_body_is_whole() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for placement in [Placement::SameWorker, Placement::TwoWorkers] {
        for len in [1_u64, 10 << 20] {
            let session = relay.session();
            let payload = Payload::new(3, len);
            let (mut receiver, mut sender) = relay.pair(&segment, placement);
            let before = segment.sum().bytes_in;
            receiver.get(&session.path);
            let reading = thread::spawn({
                let payload = payload.clone();
                move || receiver.read_checked(&payload)
            });
            crate::harness::send_payload(&mut sender, &session.path, &payload, Shape::Length)
                .unwrap();
            eventually("bytes move", || (segment.sum().bytes_in > before).then_some(()));
            sender.finish();
            reading.join().unwrap().expect_all(&payload);
            assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), len);
            sender.expect_close();
        }
    }
}

#[over_both]
fn a_receiver_may_half_close_once_the_senders_body_is_whole() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let payload = Payload::new(7, 3 << 20);
    let mut receiver = Raw::connect_with_receive_buffer(relay.address(), 64 << 10);
    receiver.get(&session.path);
    let sending = session.sender(&payload, Shape::Length);
    eventually("the whole body is in", || (segment.sum().bytes_in == payload.len()).then_some(()));
    receiver.finish();
    receiver.read_checked(&payload).expect_all(&payload);
    assert_eq!(sending.join().unwrap().expect(200).head.delivered_bytes(), payload.len());
}

#[over_both]
fn a_retry_on_the_same_key_starts_at_byte_0() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    for attempt in 0..5 {
        let payload = Payload::new(attempt, 3 << 20);
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = relay.connect();
        sender.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
        sender.send(payload.at(0));
        receiver.read_checked_part(&payload, 10_000);
        if attempt % 2 == 0 {
            drop(sender);
            assert!(receiver.is_gone_within(Duration::from_secs(10)));
        } else {
            drop(receiver);
            sender.read_response().expect_error(502);
        }
    }
    session.transfer(&Payload::new(99, 3 << 20), Shape::Form);
}

#[over_both]
fn leaving_at_any_moment_leaks_nothing() {
    // The relay does not see a FIN behind more bytes than the socket's buffers hold before the end of the wait.
    let relay = Relay::with(2, &["timeouts.wait_timeout = \"3s\""]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let payload = Payload::new(4, 4 << 20);
    for round in 0..150_u64 {
        let session = relay.session();
        // A cheap spread of moments: how far each side goes depends on the round alone.
        let (send_bytes, read_bytes) = (round * 7919 % 700_000, round * 104_729 % 600_000);
        let mut receiver = relay.connect();
        let mut sender = relay.connect();
        if round % 3 != 0 {
            receiver.get(&session.path);
        }
        if round % 5 != 0 {
            sender.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
            let part = payload.bytes();
            let _ = sender.try_send(&part[..usize::try_from(send_bytes).unwrap().min(part.len())]);
        }
        if round % 3 != 0 && round % 5 != 0 && send_bytes > 0 {
            receiver.read_checked_part(&payload, read_bytes.clamp(1, send_bytes));
        }
        match round % 4 {
            0 => (drop(receiver), drop(sender)),
            1 => (drop(sender), drop(receiver)),
            2 => (receiver.reset(), sender.reset()),
            _ => (sender.reset(), drop(receiver)),
        };
    }
    relay.expect_nothing_held(&segment, &fds);
    relay.session().transfer(&payload, Shape::Length);
}

#[over_both]
fn a_killed_curl_receiver_ends_the_sending_curl_with_22() {
    let relay = Relay::with(2, &[]);
    let payload = Payload::new(5, 80 << 20);
    payload.write_file(&relay.path("big"));
    let session = relay.session();
    let receiving = Curl::new("-fsSN --limit-rate 4M -o part")
        .arg(&session.url)
        .within(relay.directory())
        .start();
    let sending = Curl::new("-sS --fail-with-body -T big -w \\n%header{x-bytes-delivered}")
        .arg(&session.url)
        .within(relay.directory())
        .start();
    let part = relay.path("part");
    let read_bytes = || std::fs::metadata(&part).map_or(0, |m| m.len());
    let k =
        eventually("the receiver has a megabyte", || Some(read_bytes()).filter(|n| *n > 1 << 20));
    receiving.kill();
    let sent = sending.finish().expect(22);
    let (text, n) = sent.text().trim_end().rsplit_once('\n').unwrap();
    let n: u64 = n.parse().unwrap();
    assert!(k <= n && n < payload.len(), "k {k}, n {n}");
    assert!(text.contains(&n.to_string()), "the line says the same: {text:?}");
}

#[over_both]
fn a_killed_curl_sender_leaves_a_partial_file_and_a_working_key() {
    let relay = Relay::with(2, &[]);
    let payload = Payload::new(6, 80 << 20);
    payload.write_file(&relay.path("big"));
    for send in ["-T big", "-F f=@big"] {
        let session = relay.session();
        let send = |limit: &str| {
            let curl = Curl::new("-sS --fail-with-body").within(relay.directory());
            let curl = send.split(' ').chain(limit.split_whitespace()).fold(curl, |c, a| c.arg(a));
            curl.arg(&session.url).start()
        };
        let receive =
            || Curl::new("-fsSN -o part").arg(&session.url).within(relay.directory()).start();
        let receiving = receive();
        let sending = send("--limit-rate 4M");
        let part = relay.path("part");
        eventually("some of it has come", || {
            std::fs::metadata(&part).ok().filter(|m| m.len() > 100_000)
        });
        sending.kill();
        receiving.finish().expect(18);
        let receiving = receive();
        send("").finish().expect(0);
        receiving.finish().expect(0);
        payload.assert_file(&part);
        std::fs::remove_file(&part).unwrap();
    }
}

/// A sender may send its FIN at once: its bytes are relayed, and it gets its answer.
#[over_both]
fn a_sender_may_half_close_with_its_last_byte() {
    for workers in [1, 4] {
        let relay = Relay::with(workers, &[]);
        let segment = relay.segment();
        for _ in 0..3 {
            let session = relay.session();
            let mut receiver = relay.connect();
            receiver.get(&session.path);
            segment.wait_until_held(1);
            let mut sender = relay.connect();
            sender.request("HEAD", &session.path, &[]).read_response().expect(200);
            // The worker hears of the request and of its end at once.
            let stopped = Stopped::hold(&relay.worker_pids());
            sender.request("POST", &session.path, &[("Content-Length", "5")]).send(b"hello");
            sender.finish();
            drop(stopped);
            assert_eq!(receiver.read_response().expect(200).body, b"hello");
            sender.read_response().expect(200);
        }
    }
}
