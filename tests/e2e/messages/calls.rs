//! The system calls that a message costs: those that move its bytes, and no others.

use std::collections::BTreeMap;

use protocols::over_http;

use crate::harness::{Placement, Relay, Role, Strace};

/// Messages on connections that are kept alive: the receiver first, then the sender first, and so on.
const MESSAGES: usize = 40;

/// Calls that move requests, payload, answers and bells, and that wait for them.
const MOVING: [&str; 7] =
    ["recvfrom", "sendto", "sendmsg", "writev", "read", "write", "epoll_wait"];

#[over_http("the calls of TLS are its library's")]
fn a_message_costs_no_calls_beside_those_that_move_its_bytes() {
    for placement in [Placement::SameWorker, Placement::TwoWorkers] {
        let relay = Relay::with(2, &[]);
        let (segment, session) = (relay.segment(), relay.message_session());
        let (receiver, sender) = relay.pair(&segment, placement);
        let mut guest = session.party_on(Role::Guest, receiver);
        let mut host = session.party_on(Role::Host, sender);
        guest.poll();
        host.post("text/plain", b"the first one").expect_delivered(13);
        guest.read_response().expect(200);

        let workers = relay.worker_pids();
        let mut strace = Strace::watch(&workers, "all", &relay.path("trace"));
        for number in 0..MESSAGES {
            let receiver_is_first = number % 2 == 0;
            if receiver_is_first {
                guest.poll();
            }
            host.post("text/plain", b"hello");
            if !receiver_is_first {
                guest.poll();
            }
            host.expect_delivered(5);
            guest.read_response().expect(200);
        }
        strace.detach();

        let mut calls = BTreeMap::<String, usize>::new();
        for line in workers.iter().map(|pid| strace.text(*pid)).collect::<String>().lines() {
            let name = line.split('(').next().unwrap_or_default();
            *calls.entry(name.to_owned()).or_default() += 1;
        }
        let answers = calls.get("sendto").copied().unwrap_or_default();
        assert!(answers >= MESSAGES, "{placement:?}: not traced? {calls:?}");
        calls.retain(|name, _| !MOVING.contains(&name.as_str()));
        let others: usize = calls.values().sum();
        // What happens at intervals, whatever is relayed meanwhile.
        assert!(others < MESSAGES / 4, "{placement:?}: {calls:?}");
    }
}
