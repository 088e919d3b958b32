//! Many pairs at once, some of them racing for one name.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use protocols::over_http;

use super::party::{OK, line, token};
use crate::harness::{PATIENCE, Relay, eventually};

const NAMES: u64 = 10_000;
/// Of so many names, the clients of one race.
const RACING_EACH: u64 = 100;
const RACERS: u32 = 5;
const THREADS: usize = 4;

fn connect(relay: &Relay) -> TcpStream {
    let socket = TcpStream::connect(relay.address()).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Hears `ok`, or why not.
fn is_paired(socket: &mut TcpStream) -> bool {
    let mut heard = [0; 3];
    matches!(socket.read_exact(&mut heard), Ok(()) if heard == OK)
}

/// Says who it is, and hears who its peer is.
fn meet(socket: &mut TcpStream, own: u64) -> u64 {
    socket.write_all(&own.to_be_bytes()).unwrap();
    hear_id(socket)
}

fn hear_id(socket: &mut TcpStream) -> u64 {
    let mut peer = [0; 8];
    socket.read_exact(&mut peer).unwrap();
    u64::from_be_bytes(peer)
}

/// Two clients of a name, one after the other.
fn one_pair(relay: &Relay, ids: &AtomicU64) {
    let token = token();
    let mut parties = ['a', 'b'].map(|side| {
        let mut socket = connect(relay);
        socket.write_all(&line(&token, Some(side))).unwrap();
        (socket, ids.fetch_add(1, Ordering::Relaxed))
    });
    let ids = parties.each_ref().map(|(_, own)| *own);
    parties.iter_mut().for_each(|(socket, _)| assert!(is_paired(socket)));
    for (socket, own) in &mut parties {
        socket.write_all(&own.to_be_bytes()).unwrap();
    }
    for ((socket, _), peer) in parties.iter_mut().zip([ids[1], ids[0]]) {
        assert_eq!(hear_id(socket), peer);
    }
}

/// Clients of one name and of many sides come at once. Those that are paired, are so two and two.
fn one_race(relay: &Relay, ids: &AtomicU64) {
    let token = token();
    let met = Mutex::new(BTreeMap::new());
    let over = std::sync::Barrier::new(RACERS as usize);
    thread::scope(|scope| {
        for racer in 0..RACERS {
            let (token, met, over) = (&token, &met, &over);
            scope.spawn(move || {
                let side = char::from_digit(racer, 10);
                let mut socket = connect(relay);
                over.wait();
                socket.write_all(&line(token, side)).unwrap();
                let own = ids.fetch_add(1, Ordering::Relaxed);
                let peer = is_paired(&mut socket).then(|| meet(&mut socket, own));
                if let Some(peer) = peer {
                    met.lock().unwrap().insert(own, peer);
                }
                // Nobody leaves before all have their answer.
                over.wait();
            });
        }
    });
    let met = met.into_inner().unwrap();
    assert_eq!(met.len(), 2, "{met:?}");
    assert!(met.iter().all(|(own, peer)| met.get(peer) == Some(own)), "{met:?}");
}

#[over_http("names do not depend on TLS")]
fn heavy_ten_thousand_names_have_two_parties_each_however_many_want_them() {
    let relay = Relay::with(4, &["limits.connections_per_address_max = 0"]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let (next, ids) = (AtomicU64::new(0), AtomicU64::new(1));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let name = next.fetch_add(1, Ordering::Relaxed);
                    match name {
                        NAMES.. => break,
                        _ if name.is_multiple_of(RACING_EACH) => one_race(&relay, &ids),
                        _ => one_pair(&relay, &ids),
                    }
                }
            });
        }
    });
    relay.expect_nothing_held(&segment, &fds);
    eventually("no session is left", || (segment.sessions_live() == 0).then_some(()));
}
