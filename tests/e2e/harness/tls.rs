//! TLS in the tests: a certificate made for the test, and a client's side of a connection, which counts the bytes of its
//! line. A client that connects to a relay's HTTPS port speaks TLS by itself: this file remembers the ports.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

/// A certificate for 127.0.0.1 and localhost, and its key, as PEM.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) certificate: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
}

/// The certificates that the client of a port trusts, and where curl reads them.
#[derive(Clone, Debug)]
struct Port {
    client: Arc<ClientConfig>,
    certificate: PathBuf,
}

thread_local! {
    static OVER_TLS: Cell<bool> = const { Cell::new(false) };
}

static PORTS: LazyLock<Mutex<HashMap<SocketAddr, Port>>> = LazyLock::new(Mutex::default);

/// Runs a test whose relays speak HTTPS on their first listener, and all its clients with them.
pub(crate) fn over_tls(test: impl FnOnce()) {
    OVER_TLS.set(true);
    test();
    OVER_TLS.set(false);
}

pub(super) fn is_over_tls() -> bool {
    OVER_TLS.get()
}

/// The certificate that curl must trust, if a relay has one.
pub(crate) fn trusted_by_curl() -> Option<PathBuf> {
    PORTS.lock().unwrap().values().map(|port| port.certificate.clone()).next()
}

/// Whether a relay of this test speaks TLS.
pub(super) fn is_spoken() -> bool {
    !PORTS.lock().unwrap().is_empty()
}

pub(super) fn client_of(address: SocketAddr) -> Option<Arc<ClientConfig>> {
    PORTS.lock().unwrap().get(&address).map(|port| Arc::clone(&port.client))
}

/// Notes that `address` speaks TLS with the certificate in `file`. Clients that connect trust `next` as well: a handshake
/// may come long after its client was made.
pub(super) fn open_port(address: SocketAddr, [certificate, next]: [&Certificate; 2], file: &Path) {
    let client = Certificate::client_of(&[certificate, next], rustls::ALL_VERSIONS);
    let port = Port { client, certificate: file.to_owned() };
    PORTS.lock().unwrap().insert(address, port);
}

pub(super) fn close_port(address: SocketAddr) {
    PORTS.lock().unwrap().remove(&address);
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            der: made.cert.der().clone(),
        }
    }

    /// Writes the certificate where a relay in `directory` reads it.
    pub(crate) fn write(&self, directory: &Path) {
        std::fs::write(directory.join("certificate.pem"), &self.certificate).unwrap();
        std::fs::write(directory.join("key.pem"), &self.key).unwrap();
    }

    /// A client that trusts this certificate alone, and remembers its sessions.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        Self::client_of(&[self], versions)
    }

    /// A client that trusts these.
    fn client_of(
        trusted: &[&Self],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        trusted.iter().for_each(|it| roots.add(it.der.clone()).unwrap());
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// A client's connection, plain or not.
#[derive(Debug)]
pub(super) struct Transport {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Bytes taken from the kernel so far.
    pub(super) taken_bytes: u64,
}

impl Transport {
    pub(super) fn new(tcp: TcpStream, client: Option<Arc<ClientConfig>>) -> Self {
        let name = ServerName::from(tcp.peer_addr().unwrap().ip());
        let tls = client.map(|client| Box::new(ClientConnection::new(client, name).unwrap()));
        Self { tcp, tls, taken_bytes: 0 }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(super) fn tls(&mut self) -> Option<&mut ClientConnection> {
        self.tls.as_deref_mut()
    }

    /// Ends this side's stream at every level: `close_notify` and FIN.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            while tls.wants_write() {
                tls.write_tls(&mut self.tcp).unwrap();
            }
        }
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }

    /// Brings the handshake to its end.
    pub(super) fn shake(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let mut line = Counted { tcp: &self.tcp, taken_bytes: &mut self.taken_bytes };
        while tls.is_handshaking() {
            tls.complete_io(&mut line)?;
        }
        Ok(())
    }
}

/// The socket, with a count of what was read from it.
struct Counted<'t> {
    tcp: &'t TcpStream,
    taken_bytes: &'t mut u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let bytes = self.tcp.read(room)?;
        *self.taken_bytes += bytes as u64;
        Ok(bytes)
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.tcp.write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Transport {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.shake()?;
        let mut line = Counted { tcp: &self.tcp, taken_bytes: &mut self.taken_bytes };
        let Some(tls) = &mut self.tls else { return line.read(room) };
        // Reads before the rest is written: if the peer takes no more, its answer may say why.
        loop {
            match tls.reader().read(room) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            tls.read_tls(&mut line)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut line = Counted { tcp: &self.tcp, taken_bytes: &mut self.taken_bytes };
        let Some(tls) = &mut self.tls else { return line.write(bytes) };
        let mut stream = rustls::Stream::new(tls.as_mut(), &mut line);
        let taken = stream.write(bytes)?;
        // Bytes that were taken must be on the line, as with a plain socket.
        match stream.flush() {
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(taken),
            flushed => flushed.map(|()| taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
