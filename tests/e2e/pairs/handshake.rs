//! How a transit client is told apart, paired, or sent away.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use protocols::{over_both, over_http};

use super::party::{ask, hears_ok, line, pair, passes, say, token};
use crate::harness::{AccessLog, Ending, Raw, Relay, eventually};

#[over_both]
fn clients_of_one_token_and_two_sides_are_paired_in_either_order() {
    let relay = Relay::with(2, &[]);
    for [first, second] in [
        [Some('a'), Some('b')],
        [Some('b'), Some('a')],
        [None, None],
        [Some('a'), None],
        [None, Some('a')],
    ] {
        let token = token();
        let mut one = ask(&relay, &token, first);
        one.expect_silence(Duration::from_millis(20));
        let mut other = ask(&relay, &token, second);
        hears_ok(&mut one);
        hears_ok(&mut other);
        passes(&mut one, &mut other, b"hello");
        passes(&mut other, &mut one, b"world");
    }
}

#[over_both]
fn other_tokens_are_other_pairs() {
    let relay = Relay::with(2, &[]);
    let mut waits = ask(&relay, &token(), Some('a'));
    let [mut one, mut other] = pair(&relay);
    passes(&mut one, &mut other, b"mine");
    waits.expect_silence(Duration::from_millis(20));
}

#[over_both]
fn a_line_is_read_however_it_is_cut() {
    let relay = Relay::start();
    let token = token();
    let mut slow = relay.connect();
    for byte in line(&token, Some('a')) {
        slow.send(&[byte]);
    }
    let mut quick = ask(&relay, &token, Some('b'));
    hears_ok(&mut slow);
    hears_ok(&mut quick);
}

/// Panics unless the client is told this, and its connection then ends.
#[track_caller]
fn is_told(mut raw: Raw, text: &str) {
    let (bytes, ending) = raw.read_to_end();
    assert_eq!((String::from_utf8_lossy(&bytes).as_ref(), ending), (text, Ending::Complete));
}

#[over_both]
fn what_is_no_line_is_a_bad_handshake() {
    let relay = Relay::start();
    let token = token();
    let good = String::from_utf8(line(&token, None)).unwrap();
    let long = format!("please relay {}", "a".repeat(5000));
    for bad in [
        "please, relay\n",
        "please relay \n",
        "please relay 0123\n",
        "p\n",
        "please relay\r\n",
        "ping / HTTP/1.1\r\n\r\n",
        &long,
        &good.replace('\n', "\r\n"),
        &good.replace('\n', " for side 0123\n"),
        &good.replace('\n', " \n"),
        &good.replace('0', "g"),
    ] {
        is_told(say(relay.connect(), bad.as_bytes()), "bad handshake\n");
    }
}

#[over_both]
fn who_says_half_a_line_or_nothing_is_gone_in_time() {
    let relay = Relay::with(1, &["timeouts.head_timeout = \"300ms\""]);
    is_told(relay.connect(), "");
    is_told(say(relay.connect(), b"please relay 0123"), "the first message did not come in time\n");
}

#[over_both]
fn who_speaks_before_its_turn_is_impatient_and_leaves_the_name() {
    let relay = Relay::with(2, &[]);
    let token = token();
    let mut early = line(&token, Some('a'));
    early.extend_from_slice(b"x");
    is_told(say(relay.connect(), &early), "impatient\n");
    let mut late = ask(&relay, &token, Some('a'));
    late.expect_silence(Duration::from_millis(20));
    late.send(b"x");
    is_told(late, "impatient\n");
    // A line said twice is two lines, and the second is early.
    is_told(say(relay.connect(), &line(&token, None).repeat(2)), "impatient\n");
    let mut parties = ['a', 'b'].map(|side| ask(&relay, &token, Some(side)));
    parties.iter_mut().for_each(hears_ok);
}

#[over_both]
fn a_client_that_ends_before_it_is_paired_has_left() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for leave in Raw::DEPARTURES {
        let token = token();
        let waits = ask(&relay, &token, Some('a'));
        segment.wait_until_held(2);
        leave(waits);
        eventually("the name is free", || (segment.sessions_live() == 0).then_some(()));
        let mut parties = ['b', 'c'].map(|side| ask(&relay, &token, Some(side)));
        parties.iter_mut().for_each(hears_ok);
        drop(parties);
        eventually("the pair is over", || (segment.sessions_live() == 0).then_some(()));
    }
}

#[over_both]
fn a_spare_connection_waits_and_is_closed_once_its_side_is_served() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let token = token();
    let mut first = ask(&relay, &token, Some('a'));
    segment.wait_until_held(2);
    let mut spares = [(); 3].map(|()| ask(&relay, &token, Some('a')));
    spares.iter_mut().for_each(|spare| spare.expect_silence(Duration::from_millis(20)));
    let mut peer = ask(&relay, &token, Some('b'));
    hears_ok(&mut first);
    hears_ok(&mut peer);
    spares.iter_mut().for_each(|spare| spare.expect_close());
    // A connection that comes later is closed at once.
    ask(&relay, &token, Some('b')).expect_close();
    passes(&mut first, &mut peer, b"unharmed");
}

#[over_both]
fn a_spare_connection_takes_the_place_of_the_first() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let token = token();
    let first = ask(&relay, &token, Some('a'));
    segment.wait_until_held(2);
    let mut spare = ask(&relay, &token, Some('a'));
    spare.expect_silence(Duration::from_millis(20));
    first.reset();
    spare.expect_silence(Duration::from_millis(50));
    let mut peer = ask(&relay, &token, Some('b'));
    hears_ok(&mut spare);
    hears_ok(&mut peer);
    passes(&mut peer, &mut spare, b"hello");
}

#[over_both]
fn a_third_party_is_sent_away_and_harms_nobody() {
    let relay = Relay::with(2, &[]);
    let token = token();
    let mut parties = ['a', 'b'].map(|side| ask(&relay, &token, Some(side)));
    parties.iter_mut().for_each(hears_ok);
    for side in [Some('c'), None] {
        is_told(ask(&relay, &token, side), "the pair has both its parties\n");
    }
    let [one, other] = &mut parties;
    passes(one, other, b"unharmed");
}

/// A relay whose second listener has these keys, and the address of that.
fn with_second(keys: &str, lines: &[&str]) -> (Relay, SocketAddr) {
    let table = format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{keys}");
    let lines: Vec<_> = lines.iter().copied().chain([&*table]).collect();
    let relay = Relay::with(1, &lines);
    let second = relay.listener(1);
    (relay, second)
}

#[over_http("the second listener is always plain")]
fn a_listener_speaks_what_it_is_told_to() {
    let (_relay, address) = with_second("protocols = [\"http\"]", &[]);
    let mut client = say(Raw::connect(address), b"please relay ");
    client.send(b"/ HTTP/1.1\r\n\r\n");
    client.read_response().expect(400);
    Raw::connect(address).get("/").read_response().expect(200);
    let (_relay, address) = with_second("protocols = [\"pair\"]", &[]);
    let token = token();
    let mut parties = ['a', 'b'].map(|side| say(Raw::connect(address), &line(&token, Some(side))));
    parties.iter_mut().for_each(hears_ok);
    is_told(say(Raw::connect(address), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "bad handshake\n");
}

#[over_both]
fn a_connection_that_began_with_http_stays_http() {
    let relay = Relay::start();
    let mut client = relay.connect();
    client.get("/").read_response().expect(200);
    client.send(&line(&token(), None));
    client.read_response().expect(400);
}

#[over_http("the second listener is always plain")]
fn a_proxys_line_may_stand_before_it() {
    let log = AccessLog::combined();
    let [path, format] = log.keys();
    let lines = [&*path, &format, "trusted_proxies = [\"127.0.0.1\"]"];
    let (_relay, address) = with_second("proxy_protocol = true", &lines);
    let token = token();
    let mut parties = [('1', 'a'), ('2', 'b')].map(|(digit, side)| {
        let proxy = format!("PROXY TCP4 192.0.2.{digit} 192.0.2.9 1000 80\r\n");
        say(say(Raw::connect(address), proxy.as_bytes()), &line(&token, Some(side)))
    });
    parties.iter_mut().for_each(hears_ok);
    drop(parties);
    let clients: Vec<_> = log.entries(2).iter().map(|it| it.client.to_string()).collect();
    assert!(
        ["192.0.2.1", "192.0.2.2"].iter().all(|it| clients.iter().any(|c| c == it)),
        "{clients:?}"
    );
}

#[over_http("TLS does not change limits")]
fn limits_of_sessions_hold_for_those_who_come_first() {
    let relay = Relay::with(2, &["limits.sessions_per_address_max = 1"]);
    let token_of_first = token();
    let mut first = ask(&relay, &token_of_first, Some('a'));
    first.expect_silence(Duration::from_millis(20));
    is_told(ask(&relay, &token(), Some('a')), "too many sessions from this address\n");
    let mut second = ask(&relay, &token_of_first, Some('b'));
    hears_ok(&mut first);
    hears_ok(&mut second);
}

#[over_http("TLS does not change who may ask")]
fn a_relay_that_is_not_for_everybody_issues_no_session_to_others() {
    let relay = Relay::with(1, &["auth.issue_addresses = [\"192.0.2.0/24\"]"]);
    is_told(ask(&relay, &token(), None), "sessions are not issued to this address\n");
}

#[over_http("the second listener is always plain")]
fn a_connection_too_many_is_told_so_in_the_listeners_own_words() {
    let limit = "limits.connections_per_address_max = 2";
    let (relay, address) = with_second("protocols = [\"pair\"]", &[limit]);
    let held = [(); 2].map(|()| Raw::connect(address));
    let segment = relay.segment();
    eventually("both count", || (segment.sum().open == 2).then_some(()));
    is_told(Raw::connect(address), "too many connections from this address\n");
    // A listener that takes HTTP says it by HTTP, as it does not know what would come.
    relay.connect().read_response().expect(429);
    drop(held);
}

#[over_http("the second listener chooses for itself")]
fn a_balancers_line_and_tls_may_stand_before_it() {
    let table = "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n\
                 tls = { certificate = 'certificate.pem', key = 'key.pem' }";
    let relay = Relay::https(1, &["trusted_proxies = [\"127.0.0.0/8\"]", table]);
    let client = relay.certificate().client(rustls::ALL_VERSIONS);
    let token = token();
    let mut parties = ['a', 'b'].map(|side| {
        let raw = Raw::connect_by(&client, relay.listener(1));
        raw.line().write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n").unwrap();
        say(raw, &line(&token, Some(side)))
    });
    parties.iter_mut().for_each(hears_ok);
    let [one, other] = &mut parties;
    passes(one, other, b"inside TLS");
    one.finish();
    assert_eq!(other.read_to_end(), (Vec::new(), Ending::Complete));
}

#[over_both]
fn a_line_that_drips_in_is_late_all_the_same() {
    let relay = Relay::with(1, &["timeouts.head_timeout = \"400ms\""]);
    let mut slow = relay.connect();
    for byte in line(&token(), None) {
        if slow.try_send(&[byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let (bytes, _) = slow.read_to_end();
    assert_eq!(String::from_utf8_lossy(&bytes), "the first message did not come in time\n");
}

#[over_http("it is over both already")]
fn parties_of_a_plain_and_of_a_tls_listener_meet() {
    let table = "[[listener]]\naddress = \"127.0.0.1:0\"";
    let relay = Relay::https(2, &[table]);
    let token = token();
    let client = relay.certificate().client(rustls::ALL_VERSIONS);
    let secret = Raw::connect_by(&client, relay.address());
    let mut secret = say(secret, &line(&token, Some('a')));
    let mut open = say(Raw::connect_plain(relay.listener(1)), &line(&token, Some('b')));
    hears_ok(&mut secret);
    hears_ok(&mut open);
    passes(&mut secret, &mut open, &[1; 400_000]);
    passes(&mut open, &mut secret, &[2; 400_000]);
    // A FIN without the end of TLS is a cut.
    secret.line().shutdown(std::net::Shutdown::Write).unwrap();
    let (_, ending) = open.read_to_end();
    assert_ne!(ending, Ending::Complete);
}
