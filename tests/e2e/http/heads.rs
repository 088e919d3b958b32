//! Heads that are too long, too many or too slow, and connections that idle.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use protocols::{over_both, over_http};

use crate::harness::{Payload, Relay, Shape, eventually, tcp_unread};

#[over_http("TLS does not change requests and answers")]
fn long_heads_are_refused_by_the_part_that_is_too_long() {
    let relay = Relay::with(1, &["limits.head_bytes_max = 1024", "limits.header_fields_max = 10"]);
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(2000));
    let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(2000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(20));
    for (head, status) in [(target, 414), (field, 431), (many, 431)] {
        let mut raw = relay.connect();
        raw.send(head.as_bytes());
        let answer = raw.read_response().expect_error(status);
        assert!(answer.head.closes());
    }
    let mut raw = relay.connect();
    raw.send("\r\n".repeat(2000).as_bytes());
    let status = raw.read_response().status();
    assert!([400, 414, 431].contains(&status), "{status} for empty lines without end");
    let fits = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(900));
    let mut raw = relay.connect();
    raw.send(fits.as_bytes());
    raw.read_response().expect(200);
}

/// The head and the trailer section have nearly a mebibyte each, and their last bytes come one at a time.
#[over_http("TLS does not change requests and answers")]
fn long_heads_and_trailers_that_come_by_the_byte_cost_little() {
    const BYTES: usize = 1 << 20;
    const ONE_BY_ONE: usize = 1000;
    let lines = [
        "limits.head_bytes_max = \"1MiB\"",
        "limits.trailer_bytes_max = \"1MiB\"",
        "timeouts.head_timeout = \"1h\"",
    ];
    let relay = Relay::with(1, &lines);
    let worker = relay.worker_pids()[0];
    let filled = |begin: &str| format!("{begin}{}\r\n\r\n", "x".repeat(BYTES - begin.len() - 100));
    let head = filled("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let chunked = "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for text in [head, format!("{chunked}{}", filled("0\r\nX: "))] {
        let mut raw = relay.connect();
        let (most, rest) = text.as_bytes().split_at(text.len() - ONE_BY_ONE);
        raw.send(most);
        // The relay has read all of that before the first of the others comes.
        eventually("all is read", || (tcp_unread(relay.address()) == 0).then_some(()));
        let before = worker.cpu();
        for byte in rest {
            let before = worker.wake_ups();
            raw.send(&[*byte]);
            eventually("it was woken", || (worker.wake_ups() > before).then_some(()));
        }
        raw.read_response().expect(200);
        let cpu = worker.cpu().saturating_sub(before);
        assert!(cpu < Duration::from_millis(500), "{cpu:?}");
    }
}

#[over_both]
fn a_head_not_in_time_is_408() {
    let relay = Relay::with(1, &["timeouts.head_timeout = \"1s\""]);
    for start in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let begun = Instant::now();
        let mut raw = relay.connect();
        raw.send(start.as_bytes());
        raw.patience(Duration::from_secs(5));
        // A connection that never sent a byte may be closed without an answer.
        match raw.try_read_response() {
            Ok(answer) => drop(answer.expect_error(408)),
            Err(e) => {
                assert!(start.is_empty() && e.kind() == ErrorKind::UnexpectedEof, "{start:?}: {e}")
            }
        }
        assert!((900..3000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }
}

#[over_both]
fn a_kept_connection_is_closed_when_it_idles() {
    let relay = Relay::with(1, &["timeouts.idle_timeout = \"1s\""]);
    let mut raw = relay.connect();
    raw.get("/").read_response().expect(200);
    let begun = Instant::now();
    raw.patience(Duration::from_secs(5));
    raw.expect_close();
    assert!((900..3000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

const SLOW_HEADS: usize = 2000;
const HEAD_TIMEOUT: Duration = Duration::from_secs(6);

/// Sends one byte a second into each of the sockets until `deadline`.
fn drip(sockets: &mut [TcpStream], deadline: Instant) {
    let mut text =
        b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'a'));
    while Instant::now() < deadline {
        let (round, byte) = (Instant::now(), [*text.next().unwrap()]);
        for socket in sockets.iter_mut() {
            // The relay may have answered and closed already: the test checks that in the end.
            let _ = socket.write(&byte);
        }
        thread::sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
    }
}

#[over_http("load is tested once")]
fn heavy_two_thousand_slow_heads_disturb_nobody() {
    let lines = ["timeouts.head_timeout = \"6s\"", "limits.connections_per_address_max = 4096"];
    let relay = Relay::with(2, &lines);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let begun = Instant::now();
    let mut slow: Vec<_> =
        (0..SLOW_HEADS).map(|_| TcpStream::connect(relay.address()).unwrap()).collect();
    let all_here = Instant::now();
    let dripping = Arc::new(AtomicBool::new(true));
    let worst = thread::scope(|scope| {
        let exchanges = scope.spawn(|| {
            let mut worst = Duration::ZERO;
            while dripping.load(Ordering::Relaxed) {
                let start = Instant::now();
                relay.session().transfer(&Payload::new(1, 20_000), Shape::Length);
                worst = worst.max(start.elapsed());
            }
            worst
        });
        drip(&mut slow, begun + HEAD_TIMEOUT - Duration::from_millis(1500));
        assert!(segment.sum().open >= SLOW_HEADS as u64, "held: {}", segment.sum().open);
        drip(&mut slow, begun + HEAD_TIMEOUT - Duration::from_millis(500));
        for socket in &mut slow {
            expect_408(socket, all_here + HEAD_TIMEOUT + Duration::from_secs(3));
        }
        assert!(begun.elapsed() >= HEAD_TIMEOUT, "ended before the deadline");
        dripping.store(false, Ordering::Relaxed);
        exchanges.join().unwrap()
    });
    assert!(worst < Duration::from_secs(2), "an exchange took {worst:?}");
    drop(slow);
    relay.expect_nothing_held(&segment, &fds);
}

fn expect_408(socket: &mut TcpStream, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    socket.set_read_timeout(Some(left)).unwrap();
    let mut head = [0; 64];
    let n = socket.read(&mut head).expect("an answer before the deadline is over");
    let text = String::from_utf8_lossy(&head[..n]);
    assert!(text.starts_with("HTTP/1.1 408 "), "{text:?}");
}

#[over_http("TLS does not change requests and answers")]
fn a_head_request_that_is_refused_has_no_content() {
    let relay =
        Relay::with(1, &["timeouts.head_timeout = \"1s\"", "limits.head_bytes_max = \"4KiB\""]);
    let long = format!("HEAD /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(5000));
    for (head, status) in [
        ("HEAD / HTTP/1.1\r\n\r\n", 400),
        ("\r\nHEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("HEAD / HTTP/2.0\r\n\r\n", 505),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
        ("HEAD nothing HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (&*long, 414),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n", 408),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nService-Worker: script\r\n\r\n", 403),
    ] {
        let mut raw = relay.connect();
        raw.send(head.as_bytes());
        let answer = raw.read_head();
        assert_eq!(answer.status, status, "{head:?}");
        assert_ne!(answer.must("Content-Length"), "0", "{head:?}");
        raw.finish();
        if status == 403 {
            // This head is well-formed, so the connection stayed open until its client ended it.
            assert!(!answer.closes());
        }
        raw.expect_close();
    }
}

#[over_http("TLS does not change requests and answers")]
fn a_method_that_does_not_end_is_not_a_target_that_is_too_long() {
    let relay = Relay::start();
    let mut raw = relay.connect();
    raw.send(format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(20_000)).as_bytes());
    raw.read_response().expect_error(501);
}
