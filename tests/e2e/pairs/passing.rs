//! What a pair passes: every byte, both ways at once, and each FIN behind all that came before it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use protocols::{over_both, over_http};

use super::party::{OK, line, pair, pair_on, passes, token};
use crate::harness::{Ending, PATIENCE, Payload, Raw, Relay, eventually};

/// Bytes that a party sends before it reads as many.
const SLICE_BYTES: usize = 64 << 10;

/// Both parties send `payloads`, the one as fast as the other, and see each other's arrive.
fn exchange(parties: &mut [Raw; 2], payloads: &[Payload; 2]) {
    let [one, other] = payloads;
    thread::scope(|scope| {
        for (party, (own, peers)) in parties.iter_mut().zip([(one, other), (other, one)]) {
            scope.spawn(move || {
                let mut at = 0;
                while at < own.len() {
                    let slice = own.at(at);
                    let slice = &slice[..slice.len().min(SLICE_BYTES)];
                    party.send(slice);
                    let heard = party.read_exactly(slice.len());
                    assert_eq!(peers.first_difference(at, &heard), None);
                    at += slice.len() as u64;
                }
            });
        }
    });
}

#[over_both]
fn bytes_pass_both_ways_at_once_on_one_worker_and_across_two() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let payloads = [1, 2].map(|seed| Payload::new(seed, 20 << 20));
    for workers in [[0, 0], [0, 1]] {
        let mut parties = pair_on(&relay, &segment, workers);
        exchange(&mut parties, &payloads);
        let [one, other] = &mut parties;
        one.finish();
        assert_eq!(other.read_to_end(), (Vec::new(), Ending::Complete));
        other.finish();
        assert_eq!(one.read_to_end(), (Vec::new(), Ending::Complete));
        drop(parties);
        relay.expect_nothing_held(&segment, &fds);
    }
    let sum = segment.sum();
    assert_eq!((sum.bytes_in, sum.bytes_out), (80 << 20, 80 << 20));
    assert_eq!(segment.sessions_live(), 0);
}

#[over_both]
fn an_end_is_passed_on_and_the_other_direction_goes_on() {
    let relay = Relay::with(2, &[]);
    for is_first in [true, false] {
        let mut parties = pair(&relay);
        if !is_first {
            parties.reverse();
        }
        let [mut ends, mut goes_on] = parties;
        ends.send(b"the last words");
        ends.finish();
        assert_eq!(goes_on.read_to_end(), (b"the last words".to_vec(), Ending::Complete));
        for _ in 0..3 {
            passes(&mut goes_on, &mut ends, &[7; 300_000]);
        }
        goes_on.finish();
        assert_eq!(ends.read_to_end(), (Vec::new(), Ending::Complete));
    }
}

#[over_both]
fn both_may_end_at_once_and_without_a_byte() {
    let relay = Relay::with(2, &[]);
    for _ in 0..20 {
        let mut parties = pair(&relay);
        parties.iter_mut().for_each(Raw::finish);
        for party in &mut parties {
            assert_eq!(party.read_to_end(), (Vec::new(), Ending::Complete));
        }
    }
    let segment = relay.segment();
    eventually("all are over", || (segment.sessions_live() == 0).then_some(()));
}

#[over_both]
fn a_party_that_closes_after_its_last_byte_loses_nothing_of_it() {
    let relay = Relay::with(2, &[]);
    let payload = Payload::new(3, 3 << 20);
    let [mut one, mut other] = pair(&relay);
    let sending = thread::spawn(move || {
        one.send(&payload.bytes());
        one.finish();
        assert_eq!(one.read_to_end(), (Vec::new(), Ending::Complete));
    });
    let (bytes, ending) = other.read_to_end();
    let payload = Payload::new(3, 3 << 20);
    assert_eq!((bytes.len() as u64, ending), (payload.len(), Ending::Complete));
    assert_eq!(payload.first_difference(0, &bytes), None);
    other.finish();
    sending.join().unwrap();
}

#[over_both]
fn a_party_that_takes_nothing_stops_its_direction_alone() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for workers in [[0, 0], [0, 1]] {
        let [mut sends, mut stalls] = pair_on(&relay, &segment, workers);
        // Nobody reads what fills the lane and the sockets.
        sends.patience(Duration::from_millis(300));
        eventually("no more is taken", || sends.try_send(&[1; SLICE_BYTES]).is_err().then_some(()));
        sends.patience(PATIENCE);
        let held = segment.chunks_held() + segment.pipes().0 as u64;
        assert!(held <= 2 * segment.lane_chunks(), "{held} chunks and pipes");
        for _ in 0..50 {
            passes(&mut stalls, &mut sends, &[9; 10_000]);
        }
    }
}

/// A party on a plain socket, which two threads may use.
fn plain(relay: &Relay, token: &str, side: char) -> TcpStream {
    let mut socket = TcpStream::connect(relay.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(&line(token, Some(side))).unwrap();
    socket
}

/// The most that a pair held at a time.
#[derive(Default)]
struct Held {
    pipes: u64,
    chunks: u64,
    /// Memory of the workers' own, beyond what they had before.
    anonymous_kib: u64,
}

/// Both parties send `bytes` as fast as they can, and check what arrives.
fn flood(relay: &Relay, bytes: u64) -> Held {
    let segment = relay.segment();
    let token = token();
    let mut parties = ['a', 'b'].map(|side| plain(relay, &token, side));
    for party in &mut parties {
        let mut heard = [0; 3];
        party.read_exact(&mut heard).unwrap();
        assert_eq!(heard, OK);
    }
    let payloads = [4, 5].map(|seed| Payload::new(seed, bytes));
    let workers = relay.worker_pids();
    let anonymous_kib = || workers.iter().map(|it| it.memory().anonymous_kib).sum::<u64>();
    let (before, mut most) = (anonymous_kib(), Held::default());
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (index, party) in parties.iter().enumerate() {
            let (own, peers) = (&payloads[index], &payloads[1 - index]);
            running.push(scope.spawn(move || {
                let mut out = party;
                own.write_to(&mut out).unwrap();
                party.shutdown(Shutdown::Write).unwrap();
            }));
            running.push(scope.spawn(move || {
                let (mut party, mut at, mut room) = (party, 0, vec![0; 256 << 10]);
                loop {
                    let heard = party.read(&mut room).unwrap();
                    if heard == 0 {
                        break;
                    }
                    assert_eq!(peers.first_difference(at, &room[..heard]), None);
                    at += heard as u64;
                }
                assert_eq!(at, peers.len());
            }));
        }
        while !running.iter().all(|it| it.is_finished()) {
            most.pipes = most.pipes.max(segment.pipes().0 as u64);
            most.chunks = most.chunks.max(segment.chunks_held());
            let grown = anonymous_kib().saturating_sub(before);
            most.anonymous_kib = most.anonymous_kib.max(grown);
            thread::sleep(Duration::from_millis(1));
        }
    });
    most
}

#[over_http("TLS has no pipes")]
fn bulk_goes_by_pipe_both_ways_within_two_lanes() {
    let relay = Relay::with(2, &["memory.pipes = 8"]);
    let Held { pipes, chunks, .. } = flood(&relay, 200 << 20);
    let most = 2 * relay.segment().lane_chunks();
    assert!(pipes > 0 && pipes + chunks <= most, "{pipes} pipes and {chunks} chunks");
}

#[over_http("the kernel's memory is not counted, and TLS has limits of its own")]
fn a_pair_takes_4_mib_of_chunks_and_user_memory_at_most() {
    let relay = Relay::with(2, &["memory.pipes = 0"]);
    let Held { pipes, chunks, anonymous_kib } = flood(&relay, 200 << 20);
    let chunks_kib = chunks * (relay.segment().chunk_bytes() >> 10);
    println!("{chunks_kib} KiB of chunks, {anonymous_kib} KiB of the workers' own");
    assert!(pipes == 0 && chunks_kib + anonymous_kib <= 4096, "{chunks_kib} + {anonymous_kib}");
}

#[over_both]
fn a_pair_that_stands_still_both_ways_holds_two_lanes_and_no_more() {
    let relay = Relay::with(2, &["memory.pipes = 0"]);
    let segment = relay.segment();
    let workers = relay.worker_pids();
    let anonymous_kib = || workers.iter().map(|it| it.memory().anonymous_kib).sum::<u64>();
    let mut parties = pair(&relay);
    let before = anonymous_kib();
    for party in &mut parties {
        party.patience(Duration::from_millis(300));
        eventually("no more is taken", || party.try_send(&[1; SLICE_BYTES]).is_err().then_some(()));
    }
    let chunks_kib = segment.chunks_held() * (segment.chunk_bytes() >> 10);
    let own_kib = anonymous_kib() - before;
    println!("{chunks_kib} KiB of chunks, {own_kib} KiB of the workers' own");
    assert!(chunks_kib <= 4096 && own_kib <= 256, "{chunks_kib} and {own_kib}");
}

#[over_http("it is long, and moves what the tests above move")]
fn heavy_a_gibibyte_each_way_at_once() {
    let relay = Relay::with(2, &["memory.pipes = 8"]);
    assert!(flood(&relay, 1 << 30).pipes > 0);
}
