//! The relay under attack: the real program with the limits that it is shipped with, and how it is connected to.

use crate::line::Line;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How long a connection may stand still, unless the client knows better.
const PATIENCE: Duration = Duration::from_secs(20);

/// The protocol of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP.
    Plain,
    /// HTTPS.
    Tls,
}

/// The party whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A client at this address.
    At(Ipv4Addr),
    /// A client that a balancer names.
    Named(Ipv6Addr),
}

/// A running relay.
#[derive(Debug)]
pub struct Target {
    master: Child,
    _directory: TempDir,
    client: Option<Arc<ClientConfig>>,
    /// The same, but it remembers no sessions.
    forgetful: Option<Arc<ClientConfig>>,
    direct: SocketAddr,
    balanced: SocketAddr,
}

impl Target {
    /// Starts `program`, with a listener for clients and one for a balancer, on ports that the kernel chooses.
    pub fn start(program: &Path, transport: Transport) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.map_err(io::Error::other)?;
        fs::write(directory.path().join("certificate.pem"), made.cert.pem())?;
        fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem())?;
        let config = directory.path().join("attack.toml");
        fs::write(&config, configuration(transport))?;
        let errors = fs::File::create(directory.path().join("stderr"))?;
        // The relay ends with us, even if we are killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut master = command.spawn()?;
        let Some([direct, balanced]) = master.stdout.take().and_then(listeners) else {
            let _ = master.kill();
            let said = fs::read_to_string(directory.path().join("stderr")).unwrap_or_default();
            return Err(io::Error::other(format!("the relay did not start: {said}")));
        };
        let is_tls = transport == Transport::Tls;
        let client = is_tls.then(|| client(made.cert.der())).transpose()?;
        let mut forgetful = client.clone();
        if let Some(client) = &mut forgetful {
            Arc::make_mut(client).resumption = Resumption::disabled();
        }
        Ok(Self { master, _directory: directory, client, forgetful, direct, balanced })
    }

    /// The protocol of this target.
    #[must_use]
    pub fn transport(&self) -> Transport {
        if self.client.is_some() { Transport::Tls } else { Transport::Plain }
    }

    /// The master's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.master.id()
    }

    /// Connects an honest client.
    pub(crate) fn connect(&self, source: Source) -> io::Result<Line> {
        Line::new(self.socket(source, None)?, self.client.clone())
    }

    /// Connects an attacker; `window` is the size of its receive buffer.
    pub(crate) fn attack(&self, source: Source, window: Option<usize>) -> io::Result<Line> {
        let socket = self.socket(source, window)?;
        // The port is free again at once: the table of connections of this machine is not under test.
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        Line::new(socket, self.client.clone())
    }

    /// Connects an attacker that was never here.
    pub(crate) fn attack_anew(&self, source: Source) -> io::Result<Line> {
        let socket = self.socket(source, None)?;
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        Line::new(socket, self.forgetful.clone())
    }

    fn socket(&self, source: Source, window: Option<usize>) -> io::Result<TcpStream> {
        let address = match source {
            Source::At(_) => self.direct,
            Source::Named(_) => self.balanced,
        };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(bytes) = window {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Source::At(from) = source {
            // The port is chosen by connect(2), so that many connections may have the same one.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
        }
        socket.connect_timeout(&address.into(), PATIENCE)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        if let Source::Named(client) = source {
            (&socket).write_all(format!("PROXY TCP6 {client} ::1 1000 80\r\n").as_bytes())?;
        }
        Ok(socket.into())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Workers end with their master.
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// The defaults, but for what a listener needs.
fn configuration(transport: Transport) -> String {
    let tls = match transport {
        Transport::Plain => "",
        Transport::Tls => "tls = { certificate = \"certificate.pem\", key = \"key.pem\" }\n",
    };
    let listener = |more: &str| format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{tls}{more}");
    let trusted = "trusted_proxies = [\"127.0.0.1/32\"]\n";
    format!("{trusted}{}{}", listener(""), listener("proxy_protocol = true\n"))
}

/// The addresses of the first two listeners, as the relay tells them.
fn listeners(said: impl io::Read + Send + 'static) -> Option<[SocketAddr; 2]> {
    let mut lines = BufReader::new(said).lines().map_while(Result::ok);
    let mut next = || {
        lines.by_ref().find_map(|line| {
            let url = line.strip_prefix("listening on ")?;
            url.split_once("://")?.1.parse().ok()
        })
    };
    let both = [next()?, next()?];
    // A thread reads whatever else the program says.
    thread::spawn(move || lines.for_each(drop));
    Some(both)
}

/// A client that trusts the relay's certificate, and resumes sessions as browsers do.
fn client(certificate: &CertificateDer<'static>) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
