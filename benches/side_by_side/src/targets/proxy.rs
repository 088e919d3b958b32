//! Reverse proxies, which stream between a client and an origin, both of which are the generator: nginx and
//! HAProxy, set up as one does who knows that large buffers are nearly everything.

use super::{Carrier, Ends, free_address, request, until_ready};
use crate::Outcome;
use crate::end::{End, Step};
use crate::hearing::Expect;
use crate::machine::cpus;
use crate::process::Tree;
use crate::stream::Stream;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    HaProxy { splices: bool },
}

/// Who sends: the client what is uploaded, the origin what is downloaded.
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
    origin: TcpListener,
    _directory: TempDir,
}

/// `return 201` is where nginx answers by itself.
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
        location = / { return 201; }
        location / {
            proxy_pass http://ORIGIN;
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_request_buffering off;
            client_body_buffer_size 512k;
            proxy_buffer_size 256k;
            proxy_buffers 8 256k;
            proxy_busy_buffers_size 512k;
        }
    }
}
"#;

/// `splice-auto` alone splices only what has filled a buffer some times, which a fast receiver prevents.
const HAPROXY: &str = r#"
global
    tune.bufsize 262144
    tune.pipesize 1048576
defaults
    mode http
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

impl Proxy {
    pub(crate) fn start(kind: Kind) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = free_address()?;
        let file = directory.path().join("configuration");
        let (template, program) = match kind {
            Kind::Nginx => (NGINX, server("nginx")),
            Kind::HaProxy { .. } => (HAPROXY, server("haproxy")),
        };
        let splices = kind == Kind::HaProxy { splices: true };
        let text = template
            .replace("DIRECTORY", &directory.path().to_string_lossy())
            .replace("WORKERS", &cpus().to_string())
            .replace("LISTEN", &address.to_string())
            .replace("ORIGIN", &origin.local_addr()?.to_string())
            .replace(
                "SPLICE",
                if splices { "option splice-auto\n    option splice-request" } else { "" },
            );
        fs::write(&file, text)?;
        let flag = if kind == Kind::Nginx { "-c" } else { "-f" };
        let arguments = [flag.as_ref(), file.as_os_str()];
        let mut tree = Tree::start(&program, &arguments, Stdio::null())?;
        until_ready(address)?;
        // A master and a worker for each CPU; one process.
        tree.settle_at(if kind == Kind::Nginx { 1 + cpus() } else { 1 })?;
        Ok(Self { tree, address, origin, _directory: directory })
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

    /// The client's request goes ahead, since the proxy connects to its origin only then.
    fn open(&self, bytes: u64) -> Outcome<Ends> {
        let length = format!("Content-Length: {bytes}\r\n");
        let mut client = Stream::connect(self.proxy.address, None)?;
        let head = match self.direction {
            Direction::Upload => request("PUT", "/payload", &length),
            Direction::Download => request("GET", "/payload", ""),
        };
        client.write_all(&head)?;
        let origin = Stream::over(self.proxy.origin.accept()?.0, None)?;
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
