//! A listener's side of TLS: the master makes it once, before it forks, and every worker uses it.

use super::connection::TlsConnection;
use super::credentials::Credentials;
use super::tickets::Tickets;
use super::validity::Validity;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig, ServerConnection};
use shm::TicketKeys;
use std::sync::Arc;

/// The protocols inside TLS. The relay treats HTTP/1.0 as HTTP/1.1, and some clients ask for it by name.
const ALPN: [&[u8]; 2] = [b"http/1.1", b"http/1.0"];

/// A listener's side of TLS.
#[derive(Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    validity: Option<Validity>,
}

impl Acceptor {
    /// Answers with `credentials`, and hands out tickets under `keys`. Every acceptor with both takes those tickets.
    pub fn new(credentials: &Credentials, keys: TicketKeys<'static>) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certified = &credentials.certified;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(certified))));
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        config.ticketer = Arc::new(Tickets::new(keys, &certified.cert));
        // A session is kept in its ticket or not at all: other workers would not know what one remembers.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), validity: credentials.validity() })
    }

    /// The validity of its certificate, if the certificate says so in a form that is understood.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.validity
    }

    /// Draws a random number. The first one of a process is expensive: the library tests the CPU's jitter and looks for a
    /// file of the system's, 40 ms in all. The master draws one before it forks, so that workers need neither look nor
    /// test. A worker's first still takes 20 ms, since the library notices the fork (madvise(2), `MADV_WIPEONFORK`) and
    /// seeds its generators anew; so no two processes ever share a generator's state. Where the kernel cannot tell of
    /// forks, the library mixes the system's randomness into each number.
    pub fn prepare(&self) {
        let mut drawn = [0];
        // Should it fail now, it fails again in the handshake, which is then refused.
        let _ = self.config.crypto_provider().secure_random.fill(&mut drawn);
    }

    /// A TLS connection with a client that has just connected.
    pub fn accept(&self) -> Result<TlsConnection, Error> {
        ServerConnection::new(Arc::clone(&self.config)).map(TlsConnection::new)
    }
}
