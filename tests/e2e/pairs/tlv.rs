//! TLV: a sender gets a code, a receiver brings it, and every other message has its answer.

use std::time::Duration;

use protocols::{over_both, over_http};

use super::party::{
    PAIRED, REGISTER_RECEIVER, REGISTER_SENDER, WAITING, hear, hears_error, message, passes,
    receive, register, say,
};
use crate::harness::{Ending, Raw, Relay, eventually};

#[track_caller]
fn hears_paired(raw: &mut Raw) {
    assert_eq!(hear(raw), (PAIRED, Vec::new()));
}

#[over_both]
fn a_code_pairs_a_sender_and_a_receiver() {
    let relay = Relay::with(2, &["timeouts.session_lifetime = \"2h\""]);
    let (mut sender, code, lifetime) = register(&relay);
    assert_eq!((code.len(), lifetime), (28, 7200));
    sender.expect_silence(Duration::from_millis(20));
    let mut receiver = receive(&relay, &code);
    hears_paired(&mut receiver);
    hears_paired(&mut sender);
    passes(&mut sender, &mut receiver, b"\x02\0\0\0\x01x and any other bytes");
    passes(&mut receiver, &mut sender, b"please relay");
    sender.finish();
    assert_eq!(receiver.read_to_end(), (Vec::new(), Ending::Complete));
    passes(&mut receiver, &mut sender, b"received");
}

#[over_both]
fn messages_are_read_however_they_are_cut() {
    let relay = Relay::start();
    let mut sender = relay.connect();
    for byte in message(REGISTER_SENDER, b"") {
        sender.send(&[byte]);
    }
    let (_, value) = hear(&mut sender);
    let mut receiver = relay.connect();
    for byte in message(REGISTER_RECEIVER, &value[4..]) {
        receiver.send(&[byte]);
    }
    hears_paired(&mut receiver);
    hears_paired(&mut sender);
}

#[over_both]
fn a_malformed_message_is_answered_before_its_value_has_come() {
    let relay = Relay::start();
    let header = |kind: u8, length: u32| [&[kind][..], &length.to_be_bytes()].concat();
    for (bytes, word) in [
        (header(REGISTER_SENDER, 1), "REGISTER_SENDER cannot have a value of 1 bytes"),
        (header(REGISTER_RECEIVER, 0), "REGISTER_RECEIVER cannot have a value of 0 bytes"),
        (header(REGISTER_RECEIVER, 4097), "a value of 4097 bytes"),
        (header(REGISTER_RECEIVER, u32::MAX), "a value of 4294967295 bytes"),
        (message(REGISTER_RECEIVER, b"with space"), "visible ASCII"),
        (message(REGISTER_RECEIVER, b"\xff\xff"), "visible ASCII"),
    ] {
        hears_error(say(relay.connect(), &bytes), 400, word);
    }
}

#[over_both]
fn who_says_half_a_message_is_told_in_time() {
    let relay = Relay::with(1, &["timeouts.head_timeout = \"300ms\""]);
    let half = [REGISTER_RECEIVER, 0, 0, 0, 28, b'A'];
    hears_error(say(relay.connect(), &half), 408, "did not come in time");
}

#[over_both]
fn bytes_before_the_pairing_end_it() {
    let relay = Relay::with(2, &[]);
    let twice = message(REGISTER_SENDER, b"").repeat(2);
    let mut sender = say(relay.connect(), &twice);
    hear(&mut sender);
    hears_error(sender, 400, "before PAIRED");
    let (mut sender, code, _) = register(&relay);
    sender.send(b"x");
    hears_error(sender, 400, "before PAIRED");
    hears_error(receive(&relay, &code), 404, "no sender has this code");
}

#[over_both]
fn a_receiver_that_speaks_too_early_or_leaves_at_once_harms_nobody_else() {
    let relay = Relay::with(2, &[]);
    let (sender, code, _) = register(&relay);
    let mut early = message(REGISTER_RECEIVER, code.as_bytes());
    early.push(b'x');
    hears_error(say(relay.connect(), &early), 400, "before PAIRED");
    // The sender waits on, or its code was used up at this very moment.
    let is_told = |mut receiver: Raw| {
        let (kind, _) = hear(&mut receiver);
        assert!([PAIRED, super::party::ERROR].contains(&kind), "{kind}");
    };
    is_told(receive(&relay, &code));
    drop(sender);
    let (sender, code, _) = register(&relay);
    receive(&relay, &code).reset();
    is_told(receive(&relay, &code));
    drop(sender);
    let segment = relay.segment();
    eventually("nothing is left", || {
        ((segment.places_held(), segment.sessions_live()) == (0, 0)).then_some(())
    });
}

#[over_both]
fn a_code_leads_one_receiver_to_its_sender_and_no_other() {
    let relay = Relay::with(2, &[]);
    let (mut sender, code, _) = register(&relay);
    let mut receiver = receive(&relay, &code);
    hears_paired(&mut receiver);
    hears_paired(&mut sender);
    hears_error(receive(&relay, &code), 409, "both its parties");
    passes(&mut sender, &mut receiver, b"unharmed");
    drop((sender, receiver));
    let segment = relay.segment();
    eventually("the pair is over", || (segment.sessions_live() == 0).then_some(()));
    hears_error(receive(&relay, &code), 404, "no sender has this code");
    // The code of a sender that has left, and what no code looks like.
    let (sender, code, _) = register(&relay);
    sender.reset();
    eventually("its session is over", || (segment.sessions_live() == 0).then_some(()));
    for code in [&*code, "corgis.mp4", &"A".repeat(28), &"A".repeat(4096)] {
        hears_error(receive(&relay, code), 404, "no sender has this code");
    }
}

#[over_both]
fn a_code_is_no_key_of_the_other_apis_and_their_keys_are_no_codes() {
    let relay = Relay::start();
    let (mut sender, code, _) = register(&relay);
    for path in [format!("/{code}"), format!("/session/{code}")] {
        relay.connect().get(&path).read_response().expect(404);
    }
    let session = relay.session();
    hears_error(receive(&relay, &session.key), 404, "no sender has this code");
    sender.expect_silence(Duration::from_millis(20));
}

#[over_http("TLS does not change limits")]
fn wrong_codes_count_as_guesses() {
    let relay = Relay::with(2, &["limits.unknown_keys_per_second_max = 3"]);
    let wrong = "A".repeat(28);
    eventually("too many", || {
        let mut receiver = receive(&relay, &wrong);
        let (_, value) = hear(&mut receiver);
        (value[..2] == 429_u16.to_be_bytes()).then_some(())
    });
    // A good code is no guess.
    let (mut sender, code, _) = register(&relay);
    hears_paired(&mut receive(&relay, &code));
    hears_paired(&mut sender);
}

#[over_http("TLS does not change limits")]
fn a_relay_that_is_not_for_everybody_gives_no_code_to_others() {
    let relay = Relay::with(1, &["auth.issue_addresses = [\"192.0.2.0/24\"]"]);
    let sender = say(relay.connect(), &message(REGISTER_SENDER, b""));
    hears_error(sender, 403, "not issued to this address");
}

#[over_both]
fn a_sender_that_nobody_comes_to_is_told_when_its_code_is_over() {
    let relay = Relay::with(2, &["timeouts.session_lifetime = \"1s\""]);
    let (sender, code, lifetime) = register(&relay);
    assert_eq!(lifetime, 1);
    hears_error(sender, 504, "nobody came");
    hears_error(receive(&relay, &code), 404, "no sender has this code");
}

#[over_both]
fn a_sender_is_told_now_and_then_that_it_waits() {
    let relay = Relay::start();
    let (mut sender, code, _) = register(&relay);
    sender.patience(Duration::from_secs(30));
    sender.expect_silence(Duration::from_secs(17));
    assert_eq!(hear(&mut sender), (WAITING, Vec::new()));
    hears_paired(&mut receive(&relay, &code));
    hears_paired(&mut sender);
}
