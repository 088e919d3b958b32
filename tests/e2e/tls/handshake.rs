//! Handshakes: the versions that are spoken and refused, resumption at every worker, deadlines, and thousands that break.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion};

use crate::harness::{ADMIN, PATIENCE, Pid, Raw, Relay, eventually};

fn openssl(relay: &Relay, arguments: &str) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &relay.address().to_string()]);
    let done = command.args(arguments.split_whitespace()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    (done.status.success(), said)
}

#[test]
fn versions_1_2_and_1_3_are_spoken_and_none_before() {
    let relay = Relay::https(1, &[]);
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (good, said) = openssl(&relay, version);
        assert!(good && said.contains(&format!("New, {name}")), "{said}");
    }
    for version in ["-tls1_1", "-tls1"] {
        let (good, said) = openssl(&relay, &format!("{version} -cipher DEFAULT@SECLEVEL=0"));
        assert!(!good && said.contains("alert"), "{said}");
    }
    relay.connect().request("GET", "/", &[]).read_response().expect(200);
}

#[test]
fn http_1_1_is_agreed_on_and_a_client_that_cannot_speak_it_is_refused() {
    let relay = Relay::https(1, &[]);
    let offering = |protocols: &[&[u8]]| {
        let mut client = ClientConfig::clone(&relay.certificate().client(rustls::ALL_VERSIONS));
        client.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        let mut raw = Raw::connect_by(&Arc::new(client), relay.address());
        raw.shake().map(|()| raw)
    };
    for (offered, agreed) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], Some(b"http/1.1".as_slice())),
        (&[b"http/1.0"], Some(b"http/1.0")),
        (&[], None),
    ] {
        let mut raw = offering(offered).unwrap();
        assert_eq!(raw.tls().alpn_protocol(), agreed);
        raw.get("/").read_response().expect(200);
    }
    let refused = offering(&[b"h2"]).unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

/// Makes a connection to each worker: returns how its handshake went.
fn kinds(relay: &Relay, client: &Arc<ClientConfig>, workers: usize) -> Vec<HandshakeKind> {
    let segment = relay.segment();
    let kind = |worker| {
        let mut raw =
            relay.on_worker(worker, &segment, || Raw::connect_by(client, relay.address()));
        // TLS 1.3 sends the tickets with the answer.
        raw.request("GET", "/", &[]).read_response().expect(200);
        raw.tls().handshake_kind().unwrap()
    };
    (0..workers).map(kind).collect()
}

#[test]
fn a_session_is_resumed_at_every_worker() {
    let relay = Relay::https(4, &[]);
    for version in [&TLS12, &TLS13] {
        let client = relay.certificate().client(&[version]);
        let full = kinds(&relay, &client, 4);
        assert_ne!(full[0], HandshakeKind::Resumed);
        assert_eq!(full[1..], [HandshakeKind::Resumed; 3], "{:?}", version.version);
        // A worker that comes later takes the same tickets.
        let pids = relay.worker_pids();
        pids[0].signal(nix::sys::signal::Signal::SIGKILL);
        eventually("a new worker", || {
            let now = relay.worker_pids();
            let ready = |p: &crate::harness::Pid| {
                p.fds().iter().any(|(_, link)| link.contains("eventpoll"))
            };
            (now.len() == 4 && now != pids && now.iter().all(ready)).then_some(())
        });
        assert_eq!(kinds(&relay, &client, 1), [HandshakeKind::Resumed]);
    }
}

#[test]
fn a_ticket_is_taken_until_two_keys_have_come_after_its_own() {
    let relay = Relay::https(2, &[]);
    let segment = relay.segment();
    assert_eq!(segment.ticket_key(), 1, "the master has drawn the first");
    for (round, version) in [&TLS12, &TLS13].into_iter().enumerate() {
        let key = |number: u8| segment.put_ticket_key(u8::try_from(round).unwrap() * 10 + number);
        let client = relay.certificate().client(&[version]);
        assert_ne!(kinds(&relay, &client, 1), [HandshakeKind::Resumed]);
        key(1);
        assert_eq!(kinds(&relay, &client, 2), [HandshakeKind::Resumed; 2]);
        key(2);
        key(3);
        // The next session begins under the new key, and goes on at any worker.
        let again = kinds(&relay, &client, 2);
        assert_ne!(again[0], HandshakeKind::Resumed);
        assert_eq!(again[1], HandshakeKind::Resumed);
    }
    let before = segment.ticket_key();
    relay.reload(2, &[]);
    assert_eq!(segment.ticket_key(), before, "a reload is no reason for another key");
}

#[test]
fn handshakes_are_counted_by_how_they_end() {
    let relay = Relay::https(1, &[ADMIN, "timeouts.handshake_timeout = \"3s\""]);
    let expect = |outcome: &str, count: u64| {
        let name = format!("tls_handshakes_total{{outcome=\"{outcome}\"}}");
        eventually(&format!("{count} {outcome}"), || {
            (relay.metrics().value(&name) == count).then_some(())
        });
    };
    for (version, full) in [(&TLS12, 1), (&TLS13, 2)] {
        let client = relay.certificate().client(&[version]);
        for resumed in 0..3 {
            Raw::connect_by(&client, relay.address()).get("/").read_response().expect(200);
            expect("full", full);
            expect("resumed", 2 * (full - 1) + resumed);
        }
    }
    // The helper opens a connection that sends nothing.
    let hello = hello(&relay);
    expect("client_left", 1);
    Raw::connect_plain(relay.address()).get("/").read_response().expect(400);
    Raw::connect_plain(relay.address()).send(&[0; 64]);
    expect("failed", 2);
    let mut plain = Raw::connect_plain(relay.address());
    plain.request("HEAD", "/", &[]).read_response().expect(400);
    plain.finish();
    plain.expect_close();
    expect("failed", 3);
    Raw::connect_plain(relay.address()).send(&hello[..10]);
    expect("client_left", 2);
    let mut late = Raw::connect_plain(relay.address());
    late.send(&hello[..10]);
    assert!(late.is_gone_within(PATIENCE));
    expect("too_late", 1);
    for (outcome, count) in [("full", 2), ("resumed", 4), ("failed", 3), ("client_left", 2)] {
        expect(outcome, count);
    }
}

#[test]
fn a_session_of_openssl_is_resumed() {
    let relay = Relay::https(4, &[]);
    let (_, said) = openssl(&relay, "-tls1_2 -reconnect");
    assert_eq!(said.matches("Reused, TLSv1.2").count(), 5, "{said}");
}

#[test]
fn nothing_is_taken_before_the_handshake_is_over() {
    // TLS 1.3 allows early data, but anyone could send a copy of it again.
    let relay = Relay::https(1, &[]);
    let mut client = ClientConfig::clone(&relay.certificate().client(&[&TLS13]));
    client.enable_early_data = true;
    let client = Arc::new(client);
    for _ in 0..2 {
        let mut raw = Raw::connect_by(&client, relay.address());
        assert!(raw.tls().early_data().is_none());
        raw.get("/").read_response().expect(200);
        assert_eq!(raw.tls().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    }
}

#[test]
fn a_handshake_that_does_not_end_is_closed_at_its_deadline() {
    let relay = Relay::https(1, &["timeouts.handshake_timeout = \"700ms\""]);
    let segment = relay.segment();
    let hello = hello(&relay);
    for part in [0, 1, 5, 100, hello.len()] {
        let begun = Instant::now();
        let mut raw = Raw::connect_plain(relay.address());
        raw.send(&hello[..part]);
        assert!(raw.is_gone_within(Duration::from_secs(10)), "after {part} bytes");
        let after = begun.elapsed().as_millis();
        assert!((690..5000).contains(&after), "closed after {after} ms");
    }
    // A byte now and then does not extend the deadline.
    let mut raw = Raw::connect_plain(relay.address());
    let begun = Instant::now();
    for byte in &hello {
        if raw.try_send(&[*byte]).is_err() || raw.has_news() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    eventually("all are closed", || (segment.sum().open == 0).then_some(()));
}

/// The first flight of a client.
fn hello(relay: &Relay) -> Vec<u8> {
    let mut bytes = Vec::new();
    Raw::connect(relay.address()).tls().write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_no_tls_is_refused_at_once() {
    let relay = Relay::https(1, &[]);
    let hello = hello(&relay);
    let mut bent = hello.clone();
    bent[5] ^= 0xff;
    for bytes in [&b"\x80\x2e\x01\x00\x02"[..], b"get / http/1.1\r\n\r\n", &[0; 64], &bent] {
        let mut raw = Raw::connect_plain(relay.address());
        raw.send(bytes);
        assert!(raw.is_gone_within(Duration::from_secs(5)), "{bytes:?}");
    }
    relay.connect().request("GET", "/", &[]).read_response().expect(200);
}

#[test]
fn a_balancers_line_comes_before_the_handshake() {
    let table = "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n\
                 tls = { certificate = 'certificate.pem', key = 'key.pem' }";
    let relay = Relay::https(1, &["trusted_proxies = [\"127.0.0.0/8\"]", table]);
    let client = relay.certificate().client(rustls::ALL_VERSIONS);
    let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    for apart in [true, false] {
        let mut raw = Raw::connect_by(&client, relay.listener(1));
        let mut first = line.to_vec();
        if apart {
            raw.line().write_all(&first).unwrap();
            first.clear();
            eventually("it is read", || {
                let queues = crate::harness::tcp_queues(relay.listener(1), raw.local_addr());
                queues.filter(|(_, unread)| *unread == 0).map(|_| ())
            });
        }
        raw.tls().write_tls(&mut first).unwrap();
        raw.line().write_all(&first).unwrap();
        let answer = raw.request("POST", "/", &[]).read_response().expect(201);
        assert!(answer.head.must("Location").starts_with("https://"), "{:#?}", answer.head);
    }
}

#[test]
fn what_is_said_before_a_balancers_line_is_plain_and_what_comes_behind_it_is_not() {
    let table = "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n\
                 tls = { certificate = 'certificate.pem', key = 'key.pem' }";
    let refused = |relay: &Relay, sent: &[u8]| {
        let mut raw = Raw::connect_plain(relay.listener(1));
        raw.send(sent);
        let answer = raw.read_response().expect_error(400);
        raw.expect_close();
        answer.text().to_owned()
    };
    let relay = Relay::https(1, &["trusted_proxies = [\"192.0.2.0/24\"]", table]);
    let said = refused(&relay, &hello(&relay));
    assert!(said.contains("trusted proxies"), "{said}");

    let lines = ["trusted_proxies = [\"127.0.0.0/8\"]", "limits.connections_per_address_max = 1"];
    let relay = Relay::https(1, &[lines[0], lines[1], table]);
    let said = refused(&relay, &hello(&relay));
    assert!(said.contains("PROXY"), "{said}");
    // The relay knows only from the line which client has too many connections.
    let client = relay.certificate().client(rustls::ALL_VERSIONS);
    let connect = || {
        let mut raw = Raw::connect_by(&client, relay.listener(1));
        raw.line().write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n").unwrap();
        raw.get("/");
        raw
    };
    let mut first = connect();
    first.read_response().expect(200);
    connect().read_response().expect_error(429);
}

/// Processor time of every worker so far, in clock ticks.
fn worker_ticks(relay: &Relay) -> u64 {
    let ticks = |stat: String| -> u64 {
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
    };
    relay.worker_pids().iter().map(|pid| ticks(pid.read("stat"))).sum()
}

fn bent(bytes: &[u8], round: usize) -> Vec<u8> {
    let mut bent = bytes.to_vec();
    bent[round * 7 % bytes.len()] ^= 1 << (round % 8);
    bent
}

/// A client that has had the relay's first flight, and the bytes that it would send next: the end of the handshake in TLS
/// 1.3, its half of the key exchange in TLS 1.2.
fn second_flight(relay: &Relay, client: &Arc<ClientConfig>) -> (Raw, Vec<u8>) {
    let mut raw = Raw::connect_by(client, relay.address());
    let mut line = raw.line().try_clone().unwrap();
    raw.tls().write_tls(&mut line).unwrap();
    let mut flight = Vec::new();
    // A client may begin its flight with a few bytes without meaning, before all of the relay's flight has come.
    while flight.len() < 50 {
        assert!(raw.tls().read_tls(&mut line).unwrap() > 0, "closed");
        raw.tls().process_new_packets().unwrap();
        while raw.tls().wants_write() {
            raw.tls().write_tls(&mut flight).unwrap();
        }
    }
    (raw, flight)
}

#[test]
fn heavy_three_thousand_handshakes_torn_apart_leave_nothing() {
    let relay = Relay::https(2, &["timeouts.handshake_timeout = \"5s\""]);
    let segment = relay.segment();
    relay.connect().request("GET", "/", &[]).read_response().expect(200);
    eventually("it is closed", || (segment.sum().open == 0).then_some(()));
    let fds = relay.fd_counts();
    let hello = hello(&relay);
    let memory = || relay.worker_pids().iter().map(|p| p.memory().private_kib).sum::<u64>();
    let mut at_first = 0;
    for round in 0..3000_usize {
        // Both versions meet all stages, and the stages all bytes.
        let client = relay.certificate().client(&[if round % 2 == 0 { &TLS12 } else { &TLS13 }]);
        let at = |bytes: &[u8]| round * 7 % bytes.len();
        let plain = || Raw::connect_plain(relay.address());
        match round % 9 {
            // Break within the first flight, at every byte of it.
            0 => plain().send(&hello[..at(&hello)]),
            1 => {
                let mut raw = plain();
                raw.send(&hello[..at(&hello)]);
                raw.reset();
            }
            // Break with the answer on its way.
            2 => plain().send(&hello),
            3 => {
                let mut raw = plain();
                raw.send(&hello);
                raw.read_exactly(1 + round % 100);
                raw.reset();
            }
            // Break one byte somewhere.
            4 => {
                let mut raw = plain();
                raw.send(&bent(&hello, round));
                raw.has_news();
            }
            // Break within the second flight, which ends the exchange of keys.
            5 => {
                let (raw, flight) = second_flight(&relay, &client);
                raw.line().write_all(&flight[..at(&flight)]).unwrap();
            }
            6 => {
                let (raw, flight) = second_flight(&relay, &client);
                raw.line().write_all(&flight[..at(&flight)]).unwrap();
                raw.reset();
            }
            7 => {
                let (raw, flight) = second_flight(&relay, &client);
                raw.line().write_all(&bent(&flight, round)).unwrap();
                if round % 4 == 0 {
                    raw.reset();
                }
            }
            // Break with the handshake done, and a part of a request's record sent.
            _ => {
                let mut raw = Raw::connect_by(&client, relay.address());
                raw.shake().unwrap();
                raw.tls().writer().write_all(b"GET / HTTP/1.1\r\n").unwrap();
                let mut record = Vec::new();
                raw.tls().write_tls(&mut record).unwrap();
                raw.line().write_all(&record[..at(&record)]).unwrap();
                if round % 4 == 0 {
                    raw.reset();
                }
            }
        }
        if round == 600 {
            eventually("all are closed", || (segment.sum().open == 0).then_some(()));
            at_first = memory();
        }
    }
    relay.expect_nothing_held(&segment, &fds);
    let before = worker_ticks(&relay);
    std::thread::sleep(Duration::from_secs(1));
    let after = worker_ticks(&relay);
    assert!(after - before <= 2, "{} ticks in an idle second", after - before);
    let grown = memory().saturating_sub(at_first);
    println!("{grown} KiB more than after 600");
    assert!(grown < 1024, "{grown} KiB more than after 600");
    relay.connect().request("GET", "/", &[]).read_response().expect(200);
}

/// The random of the server's first answer in a new handshake: it follows the headers of the record (5 bytes) and of the
/// message (4), and the version (2) (RFC 8446, section 4.1.3).
fn server_random(relay: &Relay) -> [u8; 32] {
    let client = relay.certificate().client(rustls::ALL_VERSIONS);
    let mut hello = ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
    let mut line = TcpStream::connect(relay.address()).unwrap();
    line.set_read_timeout(Some(PATIENCE)).unwrap();
    hello.write_tls(&mut line).unwrap();
    let mut answer = [0; 43];
    line.read_exact(&mut answer).unwrap();
    assert_eq!((answer[0], answer[5]), (22, 2), "a ServerHello");
    *answer.last_chunk().unwrap()
}

/// The master draws from the library's generator before it forks; no worker continues the master's state, and no two
/// workers share one.
#[test]
fn no_two_workers_draw_the_same_first_number() {
    const WORKERS: usize = 4;
    let relay = Relay::https(WORKERS, &["timeouts.hang_timeout = \"1h\""]);
    let segment = relay.segment();
    let mut drawn = Vec::new();
    for life in 0..2 {
        for worker in 0..WORKERS {
            let random = relay.on_worker(worker, &segment, || server_random(&relay));
            assert!(!drawn.contains(&random), "life {life} of worker {worker}");
            drawn.push(random);
        }
        let old = relay.worker_pids();
        old.iter().for_each(|pid| pid.signal(Signal::SIGKILL));
        eventually("all are replaced", || {
            let now = relay.worker_pids();
            let serves = |pid: &Pid| pid.fds().iter().any(|(_, link)| link.contains("eventpoll"));
            let are_new = now.iter().all(|pid| !old.contains(pid) && serves(pid));
            (now.len() == WORKERS && are_new).then_some(())
        });
    }
}
