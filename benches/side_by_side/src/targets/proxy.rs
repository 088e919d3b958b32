//! Reverse proxies, which stream between a client and an origin. The generator is both. They are nginx and
//! HAProxy, with buffers of their own choice and with such as cost them least.

use super::pair::through;
use super::{Carrier, Ends, WORKERS, free_address, request, until_ready};
use crate::Outcome;
use crate::end::{End, Step};
use crate::hearing::Expect;
use crate::machine::SECOND_ADDRESS;
use crate::plan::Certificate;
use crate::process::{Tree, eventually, scratch};
use crate::stream::{Stream, Tls};
use rustls::ServerConfig;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    HaProxy { splices: bool },
}

impl Kind {
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy { .. } => "haproxy",
        }
    }
}

/// How a proxy is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) kind: Kind,
    /// `None`: what the program chooses.
    pub(crate) buffer_kib: Option<usize>,
    /// For HTTPS on both sides.
    pub(crate) tls: Option<&'a Certificate>,
    /// Whether HAProxy passes bytes of any kind, and does not look for HTTP in them.
    pub(crate) passes_bytes: bool,
    /// The directive by which nginx answers a request for `/`.
    pub(crate) answer: &'a str,
}

impl<'a> Shape<'a> {
    pub(crate) fn new(kind: Kind, buffer_kib: Option<usize>) -> Self {
        Self { kind, buffer_kib, tls: None, passes_bytes: false, answer: "return 201;" }
    }

    /// As the table names it.
    pub(crate) fn name(&self) -> String {
        let program = match self.kind {
            Kind::Nginx => "nginx",
            Kind::HaProxy { splices: false } => "HAProxy",
            Kind::HaProxy { splices: true } => "HAProxy splice",
        };
        let buffers = self.buffer_kib.map(|kib| format!("{kib} KiB"));
        format!("{program} {}", buffers.as_deref().unwrap_or("own buffers"))
    }

    /// HAProxy's mode.
    fn mode(&self) -> &'static str {
        if self.passes_bytes { "tcp" } else { "http" }
    }

    fn settings(&self) -> String {
        let buffers = |keys: &str| {
            self.buffer_kib.map_or_else(
                || "buffers as it chooses".to_owned(),
                |kib| format!("buffers of {kib} KiB (`{keys}`)"),
            )
        };
        match self.kind {
            Kind::Nginx => {
                let buffers = buffers(
                    "client_body_buffer_size`, `proxy_buffer_size`, 8 `proxy_buffers`, 2 of them `proxy_busy_buffers_size",
                );
                let tls = if self.tls.is_some() {
                    "; TLS 1.3 on both sides, `ssl_buffer_size 16k` (its default)"
                } else {
                    ""
                };
                format!(
                    "{WORKERS} workers; {buffers}; `proxy_buffering` and `proxy_request_buffering off`, `access_log off`, \
                     `proxy_http_version 1.1`, `keepalive_requests 1000000000`, `client_max_body_size 0`, \
                     `worker_connections 4096`{tls}"
                )
            }
            Kind::HaProxy { splices } => {
                let splices = if splices {
                    "; `option splice-auto`, `splice-request`, `splice-response`, `maxpipes 1000`, pipes of 1 MiB \
                     (`tune.pipesize`)"
                } else {
                    ""
                };
                let tls = if self.tls.is_some() { "; TLS 1.3 on both sides" } else { "" };
                format!(
                    "one process, {WORKERS} threads; {}; `mode {}`, `maxconn 1000`{splices}{tls}",
                    buffers("tune.bufsize"),
                    self.mode()
                )
            }
        }
    }
}

/// The direction of the payload: the client sends an upload, the origin sends a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Upload,
    Download,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Upload => "upload",
            Self::Download => "download",
        })
    }
}

#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) tree: Tree,
    pub(crate) address: SocketAddr,
    /// For the table.
    pub(crate) settings: String,
    pub(super) origin: TcpListener,
    /// The generator's TLS configurations, as a client and as the origin.
    tls: Option<(Tls, Arc<ServerConfig>)>,
    _directory: TempDir,
}

/// `ANSWER` is what nginx answers by itself.
const NGINX: &str = r#"
worker_processes WORKERS;
daemon off;
pid DIRECTORY/pid;
error_log stderr error;
events { worker_connections 4096; }
http {
    access_log off;
    client_max_body_size 0;
    keepalive_requests 1000000000;
    client_body_temp_path DIRECTORY/body;
    proxy_temp_path DIRECTORY/proxy;
    fastcgi_temp_path DIRECTORY/fastcgi;
    uwsgi_temp_path DIRECTORY/uwsgi;
    scgi_temp_path DIRECTORY/scgi;
    server {
        listen LISTEN;
        listen SECOND;
        location = / { ANSWER }
        location / {
            proxy_pass http://ORIGIN;
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_request_buffering off;
            BUFFERS
        }
    }
}
"#;

/// `splice-auto` alone splices only what has filled a buffer some times, which a fast receiver prevents.
const HAPROXY: &str = r#"
global
    nbthread WORKERS
    BUFFERS
defaults
    mode MODE
    maxconn 1000
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    SPLICE
frontend clients
    bind LISTEN
    default_backend origin
backend origin
    server origin ORIGIN
"#;

impl Shape<'_> {
    fn configuration(&self) -> String {
        match self.kind {
            Kind::Nginx => {
                let buffers = self.buffer_kib.map(|kib| {
                    format!(
                        "client_body_buffer_size {kib}k; proxy_buffer_size {kib}k; proxy_buffers 8 {kib}k; \
                         proxy_busy_buffers_size {}k;",
                        2 * kib
                    )
                });
                let text = NGINX.replace("BUFFERS", &buffers.unwrap_or_default());
                let Some(certificate) = self.tls else { return text };
                let listen = format!(
                    "listen LISTEN ssl; ssl_certificate {:?}; ssl_certificate_key {:?}; ssl_protocols TLSv1.3; \
                     ssl_buffer_size 16k;",
                    certificate.certificate_file(),
                    certificate.key_file()
                );
                let text = text.replace("listen LISTEN;", &listen);
                text.replace("http://ORIGIN;", "https://ORIGIN; proxy_ssl_protocols TLSv1.3;")
            }
            Kind::HaProxy { splices } => {
                let mut buffers = self
                    .buffer_kib
                    .map_or_else(String::new, |kib| format!("tune.bufsize {}\n", kib << 10));
                let mut options = "";
                if splices {
                    buffers += "    tune.pipesize 1048576\n    maxpipes 1000\n";
                    options =
                        "option splice-auto\n    option splice-request\n    option splice-response";
                }
                let text = HAPROXY.replace("BUFFERS", &buffers).replace("SPLICE", options);
                let text = text.replace("MODE", self.mode());
                let Some(certificate) = self.tls else { return text };
                let bind = format!(
                    "LISTEN ssl crt {} ssl-min-ver TLSv1.3",
                    certificate.both_file().display()
                );
                text.replace("LISTEN", &bind)
                    .replace("ORIGIN", "ORIGIN ssl verify none ssl-min-ver TLSv1.3")
            }
        }
    }
}

impl Proxy {
    pub(crate) fn start(shape: &Shape<'_>) -> Outcome<Self> {
        let directory = scratch()?;
        let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        origin.set_nonblocking(true)?;
        let address = free_address()?;
        let file = directory.path().join("configuration");
        let text = shape
            .configuration()
            .replace("DIRECTORY", &directory.path().to_string_lossy())
            .replace("WORKERS", &WORKERS.to_string())
            .replace("LISTEN", &address.to_string())
            .replace("SECOND", &format!("{SECOND_ADDRESS}:{}", address.port()))
            .replace("ORIGIN", &origin.local_addr()?.to_string())
            .replace("ANSWER", shape.answer);
        fs::write(&file, text)?;
        // A master and its workers; one process.
        let (flag, processes) = match shape.kind {
            Kind::Nginx => ("-c", 1 + WORKERS),
            Kind::HaProxy { .. } => ("-f", 1),
        };
        let arguments = [flag.as_ref(), file.as_os_str()];
        let mut tree = Tree::start(&server(shape.kind.program()), &arguments, Stdio::null())?;
        if shape.passes_bytes {
            through(address, &origin)?;
        } else {
            until_ready(address)?;
        }
        tree.settle_at(processes)?;
        let tls = shape.tls.map(|it| (Tls::clone(&it.client), Arc::clone(&it.server)));
        let settings = shape.settings();
        Ok(Self { tree, address, settings, origin, tls, _directory: directory })
    }
}

/// Where a server is, which not everybody has in the path.
pub(crate) fn server(name: &str) -> PathBuf {
    let places = ["/usr/local/sbin", "/usr/sbin"].map(|place| PathBuf::from(place).join(name));
    places.into_iter().find(|path| path.exists()).unwrap_or_else(|| name.into())
}

/// A proxy in one direction.
#[derive(Debug)]
pub(crate) struct Directed {
    pub(crate) proxy: Rc<Proxy>,
    pub(crate) direction: Direction,
}

impl Carrier for Directed {
    fn tree(&self) -> Option<&Tree> {
        Some(&self.proxy.tree)
    }

    fn settings(&self) -> String {
        self.proxy.settings.clone()
    }

    /// The client's request goes ahead, since the proxy connects to its origin only then.
    fn open(&self, bytes: u64) -> Outcome<Ends> {
        let length = format!("Content-Length: {bytes}\r\n");
        let tls = self.proxy.tls.as_ref();
        let mut client = Stream::connect(self.proxy.address, tls.map(|(client, _)| client))?;
        let head = match self.direction {
            Direction::Upload => request("PUT", "/payload", &length),
            Direction::Download => request("GET", "/payload", ""),
        };
        client.write_all(&head)?;
        let origin = eventually(|| self.proxy.origin.accept().ok())?.0;
        let origin = Stream::accepted(origin, tls.map(|(_, origin)| origin))?;
        let answer =
            |fields: &str| Step::Say(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes());
        let payload = Step::Hear(Expect::Payload(bytes));
        Ok(match self.direction {
            Direction::Upload => Ends {
                sender: End::new(client, [Step::Payload(bytes), Step::Hear(Expect::Answer)]),
                receiver: End::new(origin, [payload, answer("Content-Length: 0\r\n")]),
            },
            Direction::Download => Ends {
                sender: End::new(
                    origin,
                    [Step::Hear(Expect::Request), answer(&length), Step::Payload(bytes)],
                ),
                receiver: End::new(client, [payload]),
            },
        })
    }
}
