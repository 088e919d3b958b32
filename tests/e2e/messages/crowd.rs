//! Many sessions chatting at once over four workers.
//!
//! Not run again over HTTPS: load is tested once.

use std::net::Ipv4Addr;
use std::sync::Barrier;
use std::thread;

use crate::harness::{MessageSession, Party, Relay, Role};

const SESSIONS: usize = 500;
/// The messages that each party of a session sends and receives.
const LINES: usize = 20;
/// A thread of this test needs little.
const STACK_BYTES: usize = 256 << 10;

/// A line of a party, which no other party sends.
fn line(session: usize, from: Role, number: usize) -> Vec<u8> {
    format!("session {session}, {from:?}, line {number}\n").repeat(1 + number * session % 40).into()
}

/// The part of a party in a conversation, which the host begins.
fn chat(mut party: Party, role: Role, session: usize) {
    for number in 0..LINES {
        for from in Role::BOTH {
            let line = line(session, from, number);
            if from == role {
                party.post("text/plain", &line).expect_delivered(line.len());
            } else {
                let heard = party.poll().read_response().expect(200).body;
                assert!(heard == line, "{role:?} of session {session} heard another line");
            }
        }
    }
}

/// Parties are spread over some addresses, as people are.
fn party(sessions: &[MessageSession], number: usize, role: Role) -> Party {
    let last = u8::try_from(number % 100 + 1).unwrap();
    sessions[number].party_from(role, Ipv4Addr::new(127, 0, 0, last))
}

#[test]
fn heavy_five_hundred_sessions_chat_at_once() {
    // The thousand parties share a hundred addresses.
    let relay = Relay::with(4, &["limits.connections_per_address_max = 4096"]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| relay.message_session()).collect();
    let start = Barrier::new(2 * SESSIONS);
    thread::scope(|scope| {
        for number in 0..SESSIONS {
            for role in Role::BOTH {
                let (start, party) = (&start, party(&sessions, number, role));
                let run = move || {
                    start.wait();
                    chat(party, role, number);
                };
                thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, run).unwrap();
            }
        }
    });
    relay.expect_nothing_held(&segment, &fds);
    assert_eq!(segment.sessions_live(), SESSIONS as u64);
    for (moved_by, counters) in segment.all().iter().enumerate() {
        assert!(counters.bytes_out > 0, "worker {moved_by} had nothing to do");
    }
    sessions.iter().for_each(|session| {
        session.delete().expect_empty(200);
    });
    assert_eq!(segment.sessions_live(), 0);
}
