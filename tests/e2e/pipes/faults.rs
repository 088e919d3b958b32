//! Pipes, and the words about them in shared memory, in foreign hands. If a process that heeds no protocol changes them,
//! that transfer ends, both sides see it, no byte of it gets into another transfer, and the relay goes on.
//!
//! Not run again over HTTPS: encrypted payload does not pass through pipes.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use nix::fcntl::OFlag;

use crate::harness::{
    Fault, Payload, Pid, Placement, Raw, Relay, Segment, Session, Shape, Strace, eventually,
    send_part, send_payload,
};
use crate::pipes::passing::all_are_empty;
use crate::pipes::share::{Standing, payload_pipes};

const PLACEMENTS: [Placement; 2] = [Placement::SameWorker, Placement::TwoWorkers];
const PAYLOAD_BYTES: u64 = 64 << 20;
/// A sender that is told of a failure has much left to send, which the relay does not read.
const BRIEF: &str = "timeouts.linger_timeout = \"200ms\"";

/// A relay, and its state before the fault.
struct Scene {
    relay: Relay,
    segment: Segment,
    workers: Vec<Pid>,
    fds: Vec<usize>,
    session: Session,
}

impl Scene {
    fn of(relay: Relay) -> Self {
        let (segment, session) = (relay.segment(), relay.session());
        eventually("the issuer is gone", || (segment.sum().open == 0).then_some(()));
        let (workers, fds) = (relay.worker_pids(), relay.fd_counts());
        Self { relay, segment, workers, fds, session }
    }

    fn standing(&self, placement: Placement) -> Standing {
        let pair = self.relay.pair(&self.segment, placement);
        let standing =
            Standing::new(&self.segment, &self.session, &Payload::new(1, PAYLOAD_BYTES), pair);
        assert_eq!(self.segment.pipes().0, 2);
        standing
    }

    /// Checks that the receiver is cut, that the sender is told so and of no more bytes than have come, and that nothing
    /// else is harmed.
    #[track_caller]
    fn expect_cut(&self, Standing { reading, sending }: Standing) {
        let received = reading.rest();
        received.expect_cut();
        let answer = sending.join().unwrap().expect_error(502);
        assert!(answer.head.delivered_bytes() <= received.bytes);
        self.expect_unharmed(self.relay.address());
    }

    /// Checks that no worker has died, that the same session and others are served at `address`, with each of the pipes,
    /// and that nothing is left behind.
    #[track_caller]
    fn expect_unharmed(&self, address: SocketAddr) {
        let transfer = |session: Session, number, bytes| {
            let session = Session { address, ..session };
            session.transfer(&Payload::new(number, bytes), Shape::Length);
        };
        transfer(self.session.clone(), 10, 4 << 20);
        thread::scope(|scope| {
            for number in 11..17 {
                scope.spawn(move || transfer(self.relay.session(), number, 8 << 20));
            }
        });
        assert_eq!(self.relay.worker_pids(), self.workers);
        self.relay.expect_nothing_held(&self.segment, &self.fds);
        let is_clean = || all_are_empty(&self.relay, &self.segment).then_some(());
        eventually("every pipe is empty", is_clean);
    }
}

/// Empties each pipe; returns how many bytes were in it, by pipe.
fn rob_pipes(relay: &Relay) -> Vec<usize> {
    let rob = |number: u32| {
        let path = format!("/proc/{}/fd/{number}", relay.master().0);
        let mut options = File::options();
        let mut out = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).unwrap();
        let mut robbed = Vec::new();
        let ended = out.read_to_end(&mut robbed).unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::WouldBlock);
        robbed.len()
    };
    payload_pipes(relay.master()).into_values().map(rob).collect()
}

#[test]
fn a_forged_ack_recv_while_pipes_are_full_ends_that_transfer_alone() {
    for placement in PLACEMENTS {
        let scene = Scene::of(Relay::with(2, &[BRIEF]));
        let standing = scene.standing(placement);
        // The forged word says that both pipes are empty again. The sender checks them itself, and does without them.
        scene.segment.forge(scene.segment.lane_words().released, 2);
        eventually("the sender goes on by chunk", || {
            (scene.segment.chunks_held() > 0).then_some(())
        });
        scene.expect_cut(standing);
    }
}

#[test]
fn pipes_that_a_foreign_hand_has_emptied_cut_the_receiver() {
    for placement in PLACEMENTS {
        let scene = Scene::of(Relay::with(2, &[BRIEF]));
        let standing = scene.standing(placement);
        let robbed = rob_pipes(&scene.relay);
        assert_eq!(robbed.iter().filter(|bytes| **bytes > 0).count(), 2, "{robbed:?}");
        scene.expect_cut(standing);
    }
}

#[test]
fn a_pipe_for_a_receiver_that_takes_none_cuts_it() {
    const FIRST_BYTES: u64 = 100_000;
    for placement in PLACEMENTS {
        let scene = Scene::of(Relay::https(2, &[BRIEF, "[[listener]]\naddress = \"127.0.0.1:0\""]));
        let (relay, segment, plain) = (&scene.relay, &scene.segment, scene.relay.listener(1));
        let payload = Payload::new(2, PAYLOAD_BYTES);
        let (receivers, senders) = placement.workers();
        let mut receiver = relay.on_worker(receivers, segment, || relay.connect());
        let mut sender = relay.on_worker(senders, segment, || Raw::connect(plain));
        receiver.get(&scene.session.path);
        let length = payload.len().to_string();
        sender.request("PUT", &scene.session.path, &[("Content-Length", &length)]);
        send_part(&mut sender, &payload, 0..FIRST_BYTES).unwrap();
        let mut reading = receiver.reading(&payload);
        reading.read_to(FIRST_BYTES);
        // The forged word says that the receiver takes pipes, though its bytes would not be encrypted.
        segment.forge(segment.lane_words().takes_pipes, 1);
        let sending = thread::spawn(move || {
            let _ = send_part(&mut sender, &payload, FIRST_BYTES..payload.len());
            sender.read_response()
        });
        let received = reading.rest();
        received.expect_cut();
        assert_eq!(received.bytes, FIRST_BYTES);
        sending.join().unwrap().expect_error(502);
        scene.expect_unharmed(plain);
    }
}

#[test]
fn a_transfer_goes_on_by_chunk_and_is_whole_where_splice_fails_in_the_middle() {
    let payload = Payload::new(3, 16 << 20);
    // The workers that fill pipes, that empty them, and that do both.
    let roles =
        [(Placement::TwoWorkers, 1), (Placement::TwoWorkers, 0), (Placement::SameWorker, 0)];
    for (placement, role) in roles {
        for (error, when) in [("EINVAL", "3"), ("EPERM", "4+"), ("ENOSYS", "1+"), ("EIO", "6")] {
            let what = format!("{placement:?} {role} {error} {when}");
            let scene = Scene::of(Relay::with(2, &[BRIEF]));
            let session = scene.relay.session();
            let (receivers, senders) = placement.workers();
            let worker = [receivers, senders][role];
            let (mut receiver, mut sender) = scene.relay.pair(&scene.segment, placement);
            let fault = Fault { calls: "splice", effect: &format!("error={error}"), when };
            let trace = scene.relay.path("trace");
            let mut strace = Strace::attach_fault(scene.workers[worker], &trace, &fault);
            receiver.get(&session.path);
            let reading = thread::spawn({
                let payload = payload.clone();
                move || receiver.read_checked(&payload)
            });
            send_payload(&mut sender, &session.path, &payload, Shape::Length).unwrap();
            reading.join().unwrap().expect_all(&payload);
            let answer = sender.read_response().expect(200);
            assert_eq!(answer.head.delivered_bytes(), payload.len(), "{what}");
            drop(sender);
            strace.detach();
            assert!(strace.injected() > 0, "{what}: it was not tried");
            // The worker does not try it over and over.
            assert!(strace.injected() <= 2, "{what}: {} times", strace.injected());
            scene.expect_unharmed(scene.relay.address());
        }
    }
}
