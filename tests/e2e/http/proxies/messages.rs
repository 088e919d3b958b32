//! The messages API behind a proxy: both ways at once, and visibly cut.

use std::thread;

use crate::harness::{Front, Kind, MOUNT, MessageSession, Party, Role, TokenCookie};

pub(super) fn a_message_that_is_cut_says_so(kind: Kind) {
    // nginx passes no trailer on, as the documentation says.
    if kind == Kind::Nginx {
        return;
    }
    let front = Front::new(kind, &[]);
    let session = message_session(&front);
    let mut host = session.host();
    host.poll();
    let mut guest = session.guest();
    guest.post_in_chunks().send_chunk(b"hello");
    let mut coming = host.read_coming();
    coming.expect(&mut host, b"hello");
    drop(guest);
    coming.expect_cut(&mut host);
}

fn pass(receiver: &mut Party, sender: &mut Party, message: &str) {
    receiver.poll();
    sender.post("text/plain", message.as_bytes());
    assert_eq!(receiver.read_response().expect(200).text(), message);
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), message.len() as u64);
}

fn message_session(front: &Front) -> MessageSession {
    let answer = front.connect().request("PUT", MOUNT, &[]).read_response().expect(201);
    let TokenCookie { token, path, .. } = answer.head.token_cookie().expect("a token");
    assert_eq!(answer.head.must("Location"), &format!("{}{path}", front.origin()));
    MessageSession { address: front.address, path, token }
}

pub(super) fn messages_pass_both_ways_at_once(kind: Kind) {
    let front = Front::new(kind, &[]);
    let session = message_session(&front);
    for (role, body) in [(Role::Guest, "to the host"), (Role::Host, "to the guest")] {
        pass(&mut session.party(role.other()), &mut session.party(role), body);
    }
    let both = [Role::Host, Role::Guest].map(|role| {
        let (mut receiver, mut sender) = (session.party(role), session.party(role.other()));
        thread::spawn(move || {
            for round in 0..20 {
                pass(&mut receiver, &mut sender, &format!("message {round}"));
            }
        })
    });
    both.into_iter().for_each(|thread| thread.join().unwrap());
    let mut late = session.guest();
    late.ask("GET", &[("X-Timeout", "1")]);
    assert_eq!(late.read_response().status(), 504);
    session.delete().expect(200);
}
