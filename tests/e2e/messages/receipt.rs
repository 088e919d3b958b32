//! The delivery report of a message: its words, and what it waits for.

use std::time::Duration;

use protocols::over_both;

use crate::harness::{Payload, Raw, Relay, Role};

#[over_both]
fn the_receipt_level_is_sent_unless_asked_or_configured() {
    for (configured, default) in [(None, "sent"), (Some("messages.receipt = \"acked\""), "acked")] {
        let lines: Vec<_> = configured.into_iter().collect();
        let relay = Relay::with(1, &lines);
        let session = relay.message_session();
        for (asked, want) in [(None, default), (Some("acked"), "acked"), (Some("sent"), "sent")] {
            let (mut guest, mut host) = (session.guest(), session.host());
            guest.poll();
            let fields: Vec<_> = asked
                .map(|level| ("X-Receipt", level))
                .into_iter()
                .chain([("Content-Length", "5")])
                .collect();
            host.ask("POST", &fields).send(b"hello");
            assert_eq!(host.expect_delivered(5).head.must("X-Receipt"), want, "{asked:?}");
            guest.read_response().expect(200);
        }
        let mut wrong = session.host();
        wrong.ask("POST", &[("X-Receipt", "maybe"), ("Content-Length", "0")]);
        wrong.read_response().expect_error(400);
    }
}

#[over_both]
fn acked_waits_for_the_acknowledgement_and_sent_does_not() {
    let relay = Relay::with(2, &["timeouts.ack_timeout = \"60s\""]);
    let session = relay.message_session();
    let body = Payload::new(6, 100_000).bytes();
    for (level, waits) in [("sent", false), ("acked", true)] {
        // A receiver that reads nothing, and whose kernel takes little.
        let raw = Raw::connect_with_receive_buffer(relay.address(), 4096);
        let mut receiver = session.party_on(Role::Guest, raw);
        receiver.poll();
        let mut sender = session.host();
        sender.ask("POST", &[("X-Receipt", level), ("Content-Length", "100000")]).send(&body);
        if waits {
            sender.expect_silence(Duration::from_millis(300));
        } else {
            sender.expect_delivered(body.len());
        }
        assert_eq!(receiver.read_response().expect(200).body, body);
        if waits {
            sender.expect_delivered(body.len());
        }
    }
}
