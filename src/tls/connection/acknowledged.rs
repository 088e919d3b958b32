//! Compares the delivered count with what a client can open: real connections of either version, whose client gets
//! the line up to a random position, as its TCP acknowledges it, and no further.

#![allow(clippy::unwrap_used)]

use super::TlsConnection;
use proptest::prelude::*;
use proptest::sample::select;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::PrivateKeyDer;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

const NAME: &str = "localhost";
/// Writes that are remembered piece by piece, at least.
const EXACT_SEALS: usize = 39;

#[derive(Clone, Debug)]
enum Step {
    /// Payload is taken in, in parts of so many bytes.
    Seal(Vec<usize>),
    /// The socket takes so many bytes of the line.
    Write(usize),
    /// So many thousandths of what the socket has are acknowledged.
    Acknowledge(usize),
    /// The client changes its keys, and asks us to do so as well.
    ChangeKeys,
    /// We say that this was all.
    SayGoodbye,
}

fn step() -> impl Strategy<Value = Step> {
    let part = prop_oneof![3 => 0..200usize, 2 => 0..40_000usize, 1 => 0..200_000usize];
    prop_oneof![
        6 => prop::collection::vec(part, 1..4).prop_map(Step::Seal),
        6 => prop_oneof![0..300usize, 0..300_000usize].prop_map(Step::Write),
        6 => prop_oneof![0..=1000usize, Just(1000)].prop_map(Step::Acknowledge),
        1 => Just(Step::ChangeKeys),
        1 => Just(Step::SayGoodbye),
    ]
}

/// The line. The socket takes a little of it at a time.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    room: usize,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.get(..self.room.min(bytes.len())).unwrap();
        if taken.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= taken.len();
        self.bytes.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct World {
    tls: TlsConnection,
    client: ClientConnection,
    line: Line,
    acknowledged: usize,
    sealed_bytes: u64,
    opened_bytes: u64,
    seals: usize,
    /// The server sent only payload.
    is_payload_alone: bool,
    said_goodbye: bool,
}

impl World {
    fn new(suite: SupportedCipherSuite) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut provider = default_provider();
        provider.cipher_suites = vec![suite];
        let provider = Arc::new(provider);
        let versions = [suite.version()];
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = NAME.try_into().unwrap();
        let mut world = Self {
            tls: TlsConnection::new(ServerConnection::new(Arc::new(server)).unwrap()),
            client: ClientConnection::new(Arc::new(client), name).unwrap(),
            line: Line::default(),
            acknowledged: 0,
            sealed_bytes: 0,
            opened_bytes: 0,
            seals: 0,
            is_payload_alone: true,
            said_goodbye: false,
        };
        while world.tls.is_handshaking() || world.client.is_handshaking() {
            world.hear_client();
            world.write(usize::MAX);
            world.acknowledge(1000);
        }
        world.write(usize::MAX);
        world.acknowledge(1000);
        world
    }

    /// All that the client has to say.
    fn hear_client(&mut self) {
        let mut said = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut said).unwrap();
        }
        let mut said = said.as_slice();
        self.tls.handshake(&mut said).unwrap();
        self.tls.look(&mut said).unwrap();
    }

    fn seal(&mut self, parts: &[usize]) {
        // As a stream does: nothing more before the socket has taken all.
        if self.tls.wants_write() || self.said_goodbye {
            return;
        }
        let parts: Vec<Vec<u8>> = parts.iter().map(|bytes| vec![7; *bytes]).collect();
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        self.sealed_bytes += self.tls.seal(&slices) as u64;
        self.seals += 1;
    }

    fn write(&mut self, room: usize) {
        self.line.room = room;
        if let Err(error) = self.tls.write_to(&mut self.line) {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    /// The client gets what is acknowledged.
    fn acknowledge(&mut self, thousandths: usize) {
        let outstanding = self.line.bytes.len() - self.acknowledged;
        let until = self.acknowledged + outstanding * thousandths / 1000;
        let mut news = &self.line.bytes[self.acknowledged..until];
        while !news.is_empty() {
            self.client.read_tls(&mut news).unwrap();
            let state = self.client.process_new_packets().unwrap();
            let mut opened = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut opened).unwrap();
            self.opened_bytes += opened.len() as u64;
        }
        self.acknowledged = until;
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Seal(parts) => self.seal(parts),
            Step::Write(room) => self.write(*room),
            Step::Acknowledge(thousandths) => self.acknowledge(*thousandths),
            Step::ChangeKeys => {
                if self.client.refresh_traffic_keys().is_ok() {
                    self.is_payload_alone = false;
                    self.hear_client();
                }
            }
            Step::SayGoodbye => {
                (self.is_payload_alone, self.said_goodbye) = (false, true);
                self.tls.end();
            }
        }
    }

    fn delivered_bytes(&self) -> u64 {
        let unacknowledged = (self.line.bytes.len() - self.acknowledged) as u64;
        self.sealed_bytes.saturating_sub(self.tls.lost_without(unacknowledged))
    }

    fn check(&self) {
        let (delivered, opened) = (self.delivered_bytes(), self.opened_bytes);
        assert!(
            delivered <= opened,
            "{delivered} are said to be delivered, {opened} can be opened"
        );
        if self.is_payload_alone && self.seals <= EXACT_SEALS {
            assert_eq!(delivered, opened);
        }
    }
}

fn suites() -> Vec<SupportedCipherSuite> {
    vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_delivered_can_be_opened(
        suite in select(suites()),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(suite);
        for step in &steps {
            world.step(step);
            world.check();
        }
        // In the end all of it.
        world.write(usize::MAX);
        world.acknowledge(1000);
        prop_assert_eq!(world.delivered_bytes(), world.sealed_bytes);
        prop_assert_eq!(world.opened_bytes, world.sealed_bytes);
    }
}
