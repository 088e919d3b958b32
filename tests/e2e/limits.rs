//! What a stranger can make grow is bounded: connections, and the answers at the bound.

use crate::harness::{Payload, Relay, Shape, eventually};

#[test]
fn connections_beyond_the_limit_are_not_served_and_the_others_are() {
    let relay = Relay::with(2, &["limits.connections_max = 20"]);
    let segment = relay.segment();
    let session = relay.session();
    eventually("the issuer is gone", || (segment.sum().open == 0).then_some(()));
    let mut held: Vec<_> = (0..20).map(|_| relay.connect()).collect();
    for raw in &mut held {
        raw.get("/").read_response().expect(200);
    }
    let mut beyond = relay.connect();
    beyond.patience(std::time::Duration::from_secs(3));
    let _ = beyond.try_send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = beyond.try_read_response().unwrap();
    assert_eq!(answer.status(), 503, "{:#?}", answer.head);
    drop(beyond);
    let (mut receiver, mut sender) = (held.pop().unwrap(), held.pop().unwrap());
    receiver.get(&session.path);
    sender.put(&session.path, b"inside");
    assert_eq!(receiver.read_response().expect(200).body, b"inside");
    sender.read_response().expect(200);
    drop((receiver, sender, held));
    eventually("room again", || (segment.sum().open == 0).then_some(()));
    relay.session().transfer(&Payload::new(1, 10), Shape::Length);
}

#[test]
fn sessions_are_given_back_one_for_one() {
    let relay = Relay::with(2, &["memory.sessions_max = 5"]);
    let segment = relay.segment();
    for round in 0..40 {
        let session = relay.session();
        if round % 2 == 0 {
            session.transfer(&Payload::new(round, 100), Shape::Length);
        } else {
            let bearer = format!("Bearer {}", session.token);
            let mut raw = relay.connect();
            raw.request("DELETE", &session.path, &[("Authorization", &bearer)])
                .read_response()
                .expect(200);
        }
        assert_eq!(segment.sessions_live(), 0, "round {round}");
    }
}
