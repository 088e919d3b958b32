//! How a pair ends that its parties do not end: both connections are reset, so that nobody takes a cut for an end.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use protocols::{over_both, over_http};

use super::party::{
    ask, hear, hears_error, hears_ok, pair, pair_on, passes, receive, register, token,
};
use crate::harness::{ADMIN, AccessLog, Ending, Raw, Relay, eventually};
use crate::processes::upgrade::{install, installed};

/// Panics unless the party's connection is cut: over TLS an end that nobody announced is a cut, too.
#[track_caller]
pub(super) fn is_cut(party: &mut Raw) {
    let (_, ending) = party.read_to_end();
    assert!(ending != Ending::Complete, "it looks like an end");
}

#[over_both]
fn a_reset_is_passed_on_as_a_reset() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    for workers in [[0, 0], [0, 1]] {
        // Before and after a byte, and after the peer has ended its direction.
        for prepare in [
            |_: &mut [Raw; 2]| {},
            |[one, other]: &mut [Raw; 2]| passes(one, other, b"some bytes"),
            |[one, other]: &mut [Raw; 2]| {
                other.finish();
                assert_eq!(one.read_to_end().1, Ending::Complete);
            },
        ] {
            let mut parties = pair_on(&relay, &segment, workers);
            prepare(&mut parties);
            let [one, mut other] = parties;
            one.reset();
            eventually("the pair is over", || (segment.sessions_live() == 0).then_some(()));
            if other.try_send(b"x").is_ok() {
                eventually("its line is dead", || other.try_send(b"x").is_err().then_some(()));
            }
            drop(other);
        }
    }
    relay.expect_nothing_held(&segment, &fds);
}

#[over_both]
fn a_cut_is_seen_by_a_party_that_reads() {
    let relay = Relay::with(2, &[]);
    let [one, mut other] = pair(&relay);
    one.reset();
    is_cut(&mut other);
}

#[over_both]
fn an_unread_rest_makes_a_close_a_reset() {
    let relay = Relay::with(2, &[]);
    let [mut one, mut other] = pair(&relay);
    other.send(&[5; 100_000]);
    one.read_exactly(10);
    eventually("some is unread", || {
        (crate::harness::tcp_unread(one.local_addr()) > 0).then_some(())
    });
    drop(one);
    is_cut(&mut other);
}

#[over_both]
fn a_reset_that_crosses_what_its_peer_sends_hangs_no_worker() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let workers = relay.worker_pids();
    for round in 0..1500 {
        let [mut one, other] = pair(&relay);
        let resets = std::thread::spawn(move || other.reset());
        match round % 3 {
            0 => drop(one.line().shutdown(std::net::Shutdown::Write)),
            1 => drop(one.try_send(b"x")),
            _ => drop(one.try_send(&[1; 100_000])),
        }
        resets.join().unwrap();
    }
    eventually("all are over", || (segment.places_held() == 0).then_some(()));
    assert_eq!(relay.worker_pids(), workers);
    let cpu = || workers.iter().map(|it| it.cpu()).sum::<Duration>();
    let before = cpu();
    std::thread::sleep(Duration::from_millis(300));
    assert!(cpu() - before < Duration::from_millis(100), "they go round and round");
}

#[over_both]
fn a_party_that_ends_and_is_gone_does_not_take_its_last_bytes_with_it() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let [mut one, mut other] = pair(&relay);
    // More than its peer's kernel takes, and less than the lane does.
    let bytes = [6; 1_500_000];
    one.send(&bytes);
    one.finish();
    eventually("all is read", || (segment.sum().bytes_in == bytes.len() as u64).then_some(()));
    one.wait_until_acknowledged();
    // As its kernel answers once it has forgotten the connection.
    one.reset();
    std::thread::sleep(Duration::from_millis(100));
    let (heard, ending) = other.read_to_end();
    assert_eq!((heard.len(), ending), (bytes.len(), Ending::Complete));
    other.finish();
    eventually("the pair is over", || (segment.sessions_live() == 0).then_some(()));
}

#[over_both]
fn what_is_for_a_party_that_is_gone_cuts_its_peer() {
    let relay = Relay::with(2, &[]);
    let [mut one, mut other] = pair(&relay);
    one.finish();
    assert_eq!(other.read_to_end().1, Ending::Complete);
    one.reset();
    std::thread::sleep(Duration::from_millis(50));
    eventually("its peer knows", || other.try_send(b"in vain").is_err().then_some(()));
}

#[over_both]
fn a_slow_receiver_keeps_its_pair_though_others_need_the_room() {
    let relay =
        Relay::with(2, &["limits.patience_connections_max = 0", "timeouts.rate_window = \"2s\""]);
    for has_ended in [true, false] {
        let token = token();
        let mut one = ask(&relay, &token, Some('a'));
        let small = Raw::connect_with_receive_buffer(relay.address(), 32 << 10);
        let mut other = super::party::say(small, &super::party::line(&token, Some('b')));
        hears_ok(&mut one);
        hears_ok(&mut other);
        let bytes = [6; 1_500_000];
        one.send(&bytes);
        if has_ended {
            one.finish();
        }
        // Five seconds for what the lane and the sockets hold.
        for _ in 0..50 {
            other.read_exactly(bytes.len() / 50);
            std::thread::sleep(Duration::from_millis(100));
        }
        passes(&mut other, &mut one, b"still there");
        if has_ended {
            assert_eq!(other.read_to_end(), (Vec::new(), Ending::Complete));
        } else {
            passes(&mut one, &mut other, b"still there");
        }
    }
    // Nothing moves in this pair.
    let [mut one, mut other] = pair(&relay);
    is_cut(&mut one);
    is_cut(&mut other);
}

#[over_http("memory does not depend on TLS")]
fn a_word_that_no_sender_writes_cuts_the_pair_and_spins_no_worker() {
    let relay = Relay::with(1, &[]);
    let segment = relay.segment();
    let finish = segment.lane_words().finish;
    let [mut one, mut other] = pair(&relay);
    passes(&mut one, &mut other, b"some bytes");
    // Aborted, though its sender goes on.
    segment.forge(finish, 2);
    is_cut(&mut one);
    is_cut(&mut other);
}

#[over_both]
fn a_pair_in_which_nothing_moves_is_cut_in_time() {
    let relay = Relay::with(2, &["timeouts.pair_idle_timeout = \"1s\""]);
    let [mut one, mut other] = pair(&relay);
    let began = Instant::now();
    // A byte in either direction counts for both.
    for _ in 0..6 {
        passes(&mut one, &mut other, b"x");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(began.elapsed() > Duration::from_secs(1));
    is_cut(&mut one);
    is_cut(&mut other);
}

#[over_both]
fn a_pair_outlives_its_sessions_lifetime() {
    let relay = Relay::with(2, &["timeouts.session_lifetime = \"1s\""]);
    let [mut one, mut other] = pair(&relay);
    for _ in 0..5 {
        passes(&mut one, &mut other, b"x");
        std::thread::sleep(Duration::from_millis(400));
    }
    // A client that waits does not.
    let mut waits = ask(&relay, &token(), None);
    assert_eq!(waits.read_to_end(), (b"nobody came\n".to_vec(), Ending::Complete));
}

#[over_both]
fn pairs_go_on_over_a_reload_and_clients_that_wait_meet_those_who_come_later() {
    let relay = Relay::with(2, &[]);
    let [mut one, mut other] = pair(&relay);
    let waiting = token();
    let mut waits = ask(&relay, &waiting, Some('a'));
    let (mut sender, code, _) = register(&relay);
    relay.reload(2, &[]);
    passes(&mut one, &mut other, b"still here");
    let mut comes = ask(&relay, &waiting, Some('b'));
    hears_ok(&mut waits);
    hears_ok(&mut comes);
    passes(&mut comes, &mut waits, b"across generations");
    let mut receiver = receive(&relay, &code);
    hear(&mut receiver);
    hear(&mut sender);
    passes(&mut sender, &mut receiver, b"so do these");
}

#[over_http("an upgrade of a relay that speaks TLS has a test of its own")]
fn pairs_go_on_over_an_upgrade() {
    let directory = tempfile::tempdir().unwrap();
    let program = installed(&directory);
    let relay = Relay::of(&program, 2, &[]);
    let [mut one, mut other] = pair(&relay);
    let waiting = token();
    let mut waits = ask(&relay, &waiting, Some('a'));
    install(&program, |bytes| bytes.push(0));
    relay.upgrade(2, &[]);
    passes(&mut one, &mut other, b"still here");
    let mut comes = ask(&relay, &waiting, Some('b'));
    hears_ok(&mut waits);
    hears_ok(&mut comes);
    passes(&mut comes, &mut waits, b"across programs");
}

#[over_both]
fn clients_that_wait_are_sent_away_once_a_worker_has_drained_for_long() {
    let short = "timeouts.drain_timeout = \"300ms\"";
    let relay = Relay::with(1, &[short]);
    let mut waits = ask(&relay, &token(), None);
    let (sender, _, _) = register(&relay);
    let [mut one, mut other] = pair(&relay);
    relay.reload(1, &[short]);
    let (said, ending) = waits.read_to_end();
    assert!(said.starts_with(b"the relay is being stopped, or has been reloaded"));
    assert_eq!(ending, Ending::Complete);
    hears_error(sender, 503, "reloaded");
    passes(&mut one, &mut other, b"goes on");
}

#[over_both]
fn a_stop_sends_those_away_who_wait_and_cuts_those_who_do_not_end() {
    let mut relay = Relay::with(2, &["timeouts.stop_timeout = \"500ms\""]);
    let (sender, _, _) = register(&relay);
    let [mut ends, mut its_peer] = pair(&relay);
    let [mut one, mut other] = pair(&relay);
    relay.signal(Signal::SIGQUIT);
    hears_error(sender, 503, "being stopped");
    ends.finish();
    its_peer.finish();
    assert_eq!(ends.read_to_end().1, Ending::Complete);
    is_cut(&mut one);
    is_cut(&mut other);
    assert_eq!(relay.wait(), 0);
}

#[over_http("the control socket does not depend on TLS")]
fn the_operator_ends_a_pair_by_the_hash_of_its_session() {
    let log = AccessLog::combined();
    let keys = log.keys();
    let relay = Relay::with(2, &[ADMIN, &keys[0], &keys[1]]);
    let [mut one, mut other] = pair(&relay);
    let hash = relay.status()["transfers"]["shown"][0]["session"].as_str().unwrap().to_owned();
    for wrong in ["0123456789ab", "nonsense", "0123456789AB"] {
        assert!(!relay.end_session(wrong).status.success(), "{wrong}");
    }
    passes(&mut one, &mut other, b"unharmed");
    let ended = relay.end_session(&hash);
    assert!(ended.status.success(), "{ended:?}");
    is_cut(&mut one);
    is_cut(&mut other);
    for entry in log.entries(2) {
        assert_eq!(entry.end.as_deref(), Some("session_ended"));
        assert_eq!(entry.session.as_deref(), Some(&*hash));
    }
    assert!(!relay.end_session(&hash).status.success(), "it is over");
    let counted = "sessions_ended_total{cause=\"deleted\"}";
    assert_eq!(relay.metrics().value(counted), 1);
}

#[over_http("logs do not depend on TLS")]
fn each_party_has_a_line_in_the_access_log() {
    let log = AccessLog::json();
    let keys = log.keys();
    let relay = Relay::with(2, &[&keys[0], &keys[1]]);
    let token = token();
    let mut one = ask(&relay, &token, Some('a'));
    one.expect_silence(Duration::from_millis(20));
    let mut other = ask(&relay, &token, Some('b'));
    hears_ok(&mut one);
    hears_ok(&mut other);
    passes(&mut one, &mut other, &[1; 1000]);
    passes(&mut other, &mut one, &[2; 234]);
    one.finish();
    other.finish();
    let mut entries = log.entries(2);
    entries.sort_by_key(|it| it.bytes);
    let whole = |bytes, payload| (200, bytes, Some(payload), Some("delivered"));
    for (entry, expected) in entries.iter().zip([whole(234, 1000), whole(1000, 234)]) {
        let found = (entry.status, entry.bytes, entry.payload, entry.end.as_deref());
        assert_eq!(found, expected);
        let labels = [&entry.request, &entry.role, &entry.api].map(|it| it.as_deref());
        assert_eq!(labels, [Some("transit"), Some("both"), Some("pair")]);
        assert!(entry.session.is_some() && entry.session == entries[0].session);
        assert!(entry.wait.is_some() && entry.transfer.is_some());
    }
    let (sender, code, _) = register(&relay);
    sender.reset();
    let left = &log.entries(3)[2];
    let found = (left.status, left.end.as_deref(), left.request.as_deref());
    assert_eq!(found, (499, Some("sender_left"), Some("tlv")));
    hears_error(receive(&relay, &code), 404, "no sender");
    let unknown = &log.entries(4)[3];
    assert_eq!((unknown.status, unknown.end.as_deref(), unknown.bytes), (404, None, 30));
    let text = log.text();
    assert!(!text.contains(&token) && !text.contains(&code), "{text}");
}

#[over_http("the admin listener does not depend on TLS")]
fn metrics_and_status_show_pairs() {
    let relay = Relay::with(2, &[ADMIN]);
    let before = relay.metrics();
    let [mut one, mut other] = pair(&relay);
    passes(&mut one, &mut other, &[1; 1000]);
    let status = relay.status();
    assert_eq!(status["transfers"]["running"]["pair"], 2, "one in each direction");
    assert_eq!(status["sessions"]["live"]["pair"], 1);
    assert_eq!(status["transfers"]["shown"][0]["kind"], "pair");
    let (sender, _, _) = register(&relay);
    eventually("it waits", || (relay.status()["waits"]["senders"] == 1).then_some(()));
    sender.reset();
    one.finish();
    other.finish();
    let expected = [
        ("senders_done_total{api=\"pair\",outcome=\"delivered\"}", 2),
        ("receivers_done_total{api=\"pair\",outcome=\"complete\"}", 2),
        ("senders_done_total{api=\"pair\",outcome=\"sender_left\"}", 1),
        ("transfers_begun_total{api=\"pair\"}", 2),
        ("sessions_issued_total{kind=\"pair\"}", 2),
        ("sessions_ended_total{cause=\"complete\"}", 1),
        ("sessions_ended_total{cause=\"left\"}", 1),
    ];
    eventually("all is counted", || {
        let now = relay.metrics();
        let since = now.since(&before);
        expected.iter().all(|(series, count)| since.get(series) == Some(count)).then_some(())
    });
}
