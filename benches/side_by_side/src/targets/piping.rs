//! Piping Server, of npm, run by node.

use super::{Carrier, Ends, Lane, Requests, free_address, request, until_ready};
use crate::Outcome;
use crate::end::{End, Step};
use crate::hearing::Expect;
use crate::process::Tree;
use crate::stream::{Stream, Tls};
use std::cell::Cell;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

#[derive(Debug)]
pub(crate) struct Piping {
    pub(crate) tree: Tree,
    pub(crate) address: SocketAddr,
    tls: Option<Tls>,
    /// How many paths have been used.
    paths: Cell<u64>,
}

impl Piping {
    /// `script` is its `index.js`; for HTTPS, what the generator speaks, and the certificate and its key.
    pub(crate) fn start(script: &Path, https: Option<(&Tls, &Path, &Path)>) -> Outcome<Self> {
        let (http, secure) = (free_address()?, free_address()?);
        let (http_port, https_port) = (http.port().to_string(), secure.port().to_string());
        let mut arguments: Vec<&OsStr> = vec![script.as_os_str()];
        arguments.extend(["--host", "127.0.0.1", "--http-port", &http_port].map(OsStr::new));
        if let Some((_, certificate, key)) = https {
            arguments.extend(["--enable-https", "--https-port", &https_port].map(OsStr::new));
            arguments.extend(["--crt-path".as_ref(), certificate.as_os_str()]);
            arguments.extend(["--key-path".as_ref(), key.as_os_str()]);
        }
        let mut tree = Tree::start("node".as_ref(), &arguments, Stdio::null())?;
        let address = if https.is_some() { secure } else { http };
        until_ready(address)?;
        tree.settle_at(1)?;
        let tls = https.map(|(tls, ..)| Tls::clone(tls));
        Ok(Self { tree, address, tls, paths: Cell::new(0) })
    }

    /// A path that nobody has used.
    pub(crate) fn path(&self) -> String {
        self.paths.set(self.paths.get() + 1);
        format!("/{}-", self.paths.get())
    }

    pub(crate) fn connect(&self) -> Outcome<Stream> {
        Stream::connect(self.address, self.tls.as_ref())
    }

    pub(crate) fn lane(&self, bytes: u64) -> Outcome<Lane> {
        let requests = Requests::Numbered { path: self.path(), bytes };
        Ok(Lane {
            sender: self.connect()?,
            receiver: self.connect()?,
            requests,
            answer: Expect::Answer,
        })
    }
}

/// As it comes: node runs it in one thread.
pub(crate) const SETTINGS: &str = "as it comes; what it logs of each request goes to /dev/null";

impl Carrier for Piping {
    fn tree(&self) -> Option<&Tree> {
        Some(&self.tree)
    }

    fn settings(&self) -> String {
        SETTINGS.to_owned()
    }

    fn open(&self, bytes: u64) -> Outcome<Ends> {
        let path = self.path();
        let head = request("PUT", &path, &format!("Content-Length: {bytes}\r\n"));
        let put = [Step::Say(head), Step::Payload(bytes), Step::Hear(Expect::Answer)];
        let get = [Step::Say(request("GET", &path, "")), Step::Hear(Expect::Payload(bytes))];
        Ok(Ends {
            sender: End::new(self.connect()?, put),
            receiver: End::new(self.connect()?, get),
        })
    }
}
