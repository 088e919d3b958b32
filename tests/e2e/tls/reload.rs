//! Certificates and reloads: an exchange that no transfer notices, and a bad certificate that changes nothing.

use std::fs;
use std::sync::Arc;
use std::thread;

use rustls::{ALL_VERSIONS, ClientConfig, HandshakeKind};

use crate::harness::{Certificate, Payload, Raw, Relay, eventually, over_tls};
use crate::processes::upgrade::{install, installed};

fn put_in_place(relay: &Relay, certificate: &str, key: &str) {
    fs::write(relay.path("certificate.pem"), certificate).unwrap();
    fs::write(relay.path("key.pem"), key).unwrap();
}

/// How a handshake of `client` went, with a request behind it.
fn kind(relay: &Relay, client: &Arc<ClientConfig>) -> HandshakeKind {
    let mut raw = Raw::connect_by(client, relay.address());
    raw.get("/").read_response().expect(200);
    raw.tls().handshake_kind().unwrap()
}

#[test]
fn a_certificate_is_exchanged_beside_a_running_transfer() {
    let relay = Relay::https(2, &[]);
    let segment = relay.segment();
    let old = relay.certificate().client(ALL_VERSIONS);
    assert_ne!(kind(&relay, &old), HandshakeKind::Resumed);
    let session = relay.session();
    let payload = Payload::new(1, 3 << 20);
    let receiving = session.receiver(&payload);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
    let bytes = payload.bytes();
    let (first, rest) = bytes.split_at(1 << 20);
    sender.send(first);
    eventually("a part has come", || (segment.sum().bytes_out >= 1 << 20).then_some(()));

    let made = Certificate::new();
    made.write(relay.directory());
    relay.reload(2, &[]);
    let new = made.client(ALL_VERSIONS);
    assert_ne!(kind(&relay, &new), HandshakeKind::Resumed);
    assert_eq!(kind(&relay, &new), HandshakeKind::Resumed);
    // The old client's ticket is of no use any more, and it does not know the new certificate.
    let refused = Raw::connect_by(&old, relay.address()).shake().unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");

    let sending = thread::spawn({
        let rest = rest.to_vec();
        move || {
            sender.send(&rest);
            sender.read_response()
        }
    });
    receiving.join().unwrap().expect_all(&payload);
    assert_eq!(sending.join().unwrap().expect(200).head.delivered_bytes(), payload.len());
}

#[test]
fn a_reload_with_the_same_certificate_keeps_sessions_of_tls() {
    let relay = Relay::https(2, &[]);
    let client = relay.certificate().client(ALL_VERSIONS);
    kind(&relay, &client);
    relay.reload(2, &[]);
    assert_eq!(kind(&relay, &client), HandshakeKind::Resumed);
}

#[test]
fn an_upgrade_keeps_sessions_of_tls() {
    let directory = tempfile::tempdir().unwrap();
    let program = installed(&directory);
    let mut relay = None;
    over_tls(|| relay = Some(Relay::of(&program, 2, &[])));
    let relay = relay.unwrap();
    let segment = relay.segment();
    let client = relay.certificate().client(ALL_VERSIONS);
    kind(&relay, &client);
    install(&program, |bytes| bytes.push(0));
    relay.upgrade(2, &[]);
    assert_eq!(kind(&relay, &client), HandshakeKind::Resumed);
    assert_eq!(segment.ticket_key(), 1, "the new program goes on with the keys of the old one");
}

#[test]
fn a_bad_certificate_keeps_the_old_one() {
    let relay = Relay::https(2, &[]);
    let client = relay.certificate().client(ALL_VERSIONS);
    let pids = relay.worker_pids();
    let other = Certificate::new();
    let own = relay.certificate();
    for (certificate, key, what) in [
        (own.certificate.as_str(), other.key.as_str(), "does not belong"),
        ("", &own.key, "no certificate"),
    ] {
        put_in_place(&relay, certificate, key);
        let output = relay.request("reload").output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(what), "{said}");
        kind(&relay, &client);
    }
    assert_eq!(relay.worker_pids(), pids);
}
