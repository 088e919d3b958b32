//! Clients that are gone without a FIN: the kernel probes each, and a client whose machine is lost frees its place.

use std::fs::File;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use protocols::{over_both, over_http};

use crate::harness::{Curl, Line, NEAR, Raw, Relay, Timer, eventually, stays, tcp_timer};

const KEEP_ALIVE: u8 = 2;

/// Checks that the relay's socket of this connection has a keep-alive timer that was last set to 100 seconds.
#[track_caller]
fn expect_keep_alive(relay: SocketAddr, client: &Raw) {
    eventually("a keep-alive timer", || {
        let Timer { kind, hundredths } = tcp_timer(relay, client.local_addr())?;
        (kind == KEEP_ALIVE && (8000..=10_000).contains(&hundredths)).then_some(())
    });
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn the_kernel_asks_after_every_client_as_often_as_configured() {
    let relay = Relay::with(2, &["timeouts.keepalive_idle = \"100s\""]);
    let (session, segment) = (relay.session(), relay.segment());
    let idle = relay.connect();
    expect_keep_alive(relay.address(), &idle);
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    segment.wait_until_held(1);
    expect_keep_alive(relay.address(), &receiver);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "10")]).send(b"hello");
    receiver.read_head();
    assert_eq!(receiver.read_exactly(5), b"hello");
    // The transfer runs, and nothing moves.
    expect_keep_alive(relay.address(), &receiver);
    expect_keep_alive(relay.address(), &sender);
    sender.send(b"world");
    sender.read_response().expect(200);
    expect_keep_alive(relay.address(), &sender);
}

#[over_both]
fn a_receiver_whose_machine_is_lost_is_found_out_while_bytes_are_on_their_way_to_it() {
    // The receiver's program runs and takes all bytes that come, or stands still behind a closed window.
    for is_stopped in [false, true] {
        let Some(line) = Line::lay() else { return };
        let public = format!("[[listener]]\naddress = \"{NEAR}:0\"");
        let keys = ["timeouts.keepalive_idle = \"1s\"", "timeouts.keepalive_interval = \"1s\""];
        let lines = [&keys[..], &["limits.keepalive_probes_max = 2", &public]].concat();
        let relay = Relay::on(&line.near, 2, &lines);
        let segment = relay.segment();
        let root = format!("http://{}/", relay.listener(1));
        let issued = Curl::on(&line.far, "-fsSX POST").arg(root).run().expect(0);
        let url = issued.text().trim_end();
        let mut lost = Curl::on(&line.far, "-fsS -o /dev/null").arg(url).start();
        let zeros = File::open("/dev/zero").unwrap();
        let sender =
            Curl::on(&line.near, "-sS --fail-with-body -T -").arg(url).stdin(zeros).start();
        eventually("it has begun", || (segment.sum().bytes_out > 1 << 20).then_some(()));
        if is_stopped {
            lost.signal(Signal::SIGSTOP);
            let span = Duration::from_millis(500);
            stays("its window is closed", span, || segment.sum().bytes_out);
        }
        line.cut();
        assert!(sender.finish().expect(22).text().starts_with("receiver left: "));
        segment.wait_until_held(0);
        assert!(lost.is_running(), "it was told nothing");
    }
}

#[over_both]
fn a_client_whose_machine_is_lost_frees_its_place() {
    let parties = ["-fsSN -o -", "-fsS -T /dev/null"];
    for party in parties {
        let Some(line) = Line::lay() else { return };
        let public = format!("[[listener]]\naddress = \"{NEAR}:0\"");
        let relay = Relay::on(
            &line.near,
            2,
            &[
                "timeouts.keepalive_idle = \"1s\"",
                "timeouts.keepalive_interval = \"1s\"",
                "limits.keepalive_probes_max = 2",
                &public,
            ],
        );
        let segment = relay.segment();
        let root = format!("http://{}/", relay.listener(1));
        let issued = Curl::on(&line.far, "-fsSX POST").arg(root).run().expect(0);
        let url = issued.text().trim_end();
        let mut lost = Curl::on(&line.far, party).arg(url).start();
        segment.wait_until_held(1);
        line.cut();
        let cut = Instant::now();
        segment.wait_until_held(0);
        assert!(cut.elapsed() < Duration::from_secs(5), "{:?}", cut.elapsed());
        assert!(lost.is_running(), "it was told nothing");
        // A client that comes now finds the place free.
        let receiving = Curl::on(&line.near, "-fsS").arg(url).start();
        let sending = Curl::on(&line.near, "-fsS -d hello").arg(url).start();
        sending.finish().expect(0);
        assert_eq!(receiving.finish().expect(0).text(), "hello");
    }
}
