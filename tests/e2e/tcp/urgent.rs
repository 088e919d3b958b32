//! Urgent bytes (`MSG_OOB`, as telnet's interrupt is sent) among those of a body: they are no payload and are left out,
//! however the payload passes, and no client waits because of them.

use std::os::fd::AsRawFd;
use std::thread;

use nix::sys::socket::{MsgFlags, send};
use protocols::over_both;

use crate::harness::{Payload, Raw, Relay, Stopped, eventually, tcp_queues};

/// Payload passes by chunk alone, or through pipes as well.
const LANES: [&str; 2] = ["memory.pipes = 0", "memory.pipes = 4"];
const BODY_BYTES: usize = 4 << 20;
/// Bytes that come at once, at the body's end: enough for a pipe, on both sides of the urgent byte.
const TAIL_BYTES: usize = 160 << 10;
const TAIL_MARK: usize = 40 << 10;

/// Sends `bytes`, with an urgent one in addition behind the first `mark`.
fn send_with_urgent(sender: &mut Raw, bytes: &[u8], mark: usize) {
    let (before, behind) = bytes.split_at(mark);
    sender.send(before);
    assert_eq!(send(sender.line().as_raw_fd(), b"!", MsgFlags::MSG_OOB), Ok(1));
    sender.send(behind);
}

/// Makes a transfer whose body `sending` sends; it must succeed for both sides.
fn transfer(relay: &Relay, payload: &Payload, sending: impl FnOnce(&mut Raw)) {
    let session = relay.session();
    let (mut receiver, mut sender) = (relay.connect(), relay.connect());
    receiver.get(&session.path);
    let reading = thread::spawn({
        let payload = payload.clone();
        move || receiver.read_checked(&payload)
    });
    sender.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
    sending(&mut sender);
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
    reading.join().unwrap().expect_all(payload);
}

#[over_both]
fn an_urgent_byte_in_the_middle_of_a_body_is_left_out() {
    for lane in LANES {
        let relay = Relay::with(1, &[lane]);
        let payload = Payload::new(1, BODY_BYTES as u64);
        transfer(&relay, &payload, |sender| {
            send_with_urgent(sender, &payload.bytes(), BODY_BYTES / 2);
        });
    }
}

#[over_both]
fn what_has_come_behind_an_urgent_byte_is_not_waited_for() {
    for (lane, ends) in LANES.into_iter().flat_map(|lane| [(lane, false), (lane, true)]) {
        let relay = Relay::with(1, &[lane]);
        let segment = relay.segment();
        let payload = Payload::new(2, BODY_BYTES as u64);
        let bytes = payload.bytes();
        let (most, tail) = bytes.split_at(BODY_BYTES - TAIL_BYTES);
        transfer(&relay, &payload, |sender| {
            sender.send(most);
            eventually("it was read", || {
                (segment.sum().bytes_out == most.len() as u64).then_some(())
            });
            // All these bytes are there when the worker reads again, and epoll will report nothing after them.
            let stopped = Stopped::hold(&relay.worker_pids());
            send_with_urgent(sender, tail, TAIL_MARK);
            if ends {
                sender.finish();
            }
            eventually("it has come", || {
                let remote = sender.line().peer_addr().unwrap();
                let (unacknowledged, _) = tcp_queues(sender.local_addr(), remote)?;
                (unacknowledged == 0).then_some(())
            });
            drop(stopped);
        });
    }
}
