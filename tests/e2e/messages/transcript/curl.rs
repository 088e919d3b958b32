//! The transcript's client as a user has it: a curl for each request, the host's with a cookie jar.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::client::{Answer, Body, Client, ENDLESS, Request};
use crate::harness::{Curl, Head, Relay, RunningCurl, eventually};

/// Bytes of an endless body that stand for no end: curl sends them slowly.
const ENDLESS_BYTES: usize = 50 << 20;

/// A curl a request; the host's curls share a jar.
#[derive(Debug)]
pub(super) struct OverCurl {
    directory: PathBuf,
    url: String,
    jar: Option<String>,
    /// The curl that runs, and the name its files begin with.
    running: Option<(RunningCurl, String)>,
}

/// Numbers the files of all curls of this process.
static REQUESTS: AtomicUsize = AtomicUsize::new(0);

impl OverCurl {
    fn new(relay: &Relay, jar: Option<String>) -> Self {
        Self { directory: relay.directory().to_owned(), url: relay.url(""), jar, running: None }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.join(name)).unwrap_or_default()
    }

    /// The final head of what curl has written down, and the trailer fields behind it.
    fn parse_heads(text: &[u8]) -> (Head, Vec<(String, String)>) {
        let mut rest = text;
        loop {
            let end = rest.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
            let head = Head::parse(&rest[..end]);
            rest = &rest[end..];
            if !head.is_interim() {
                let trailer = std::str::from_utf8(rest).unwrap().lines().filter(|l| !l.is_empty());
                return (head, trailer.map(Head::field_line).collect());
            }
        }
    }
}

impl Client for OverCurl {
    fn host(relay: &Relay) -> Self {
        Self::new(relay, Some("jar".to_owned()))
    }

    fn guest(relay: &Relay) -> Self {
        Self::new(relay, None)
    }

    fn host_like(relay: &Relay, first: &Self) -> Self {
        Self::new(relay, first.jar.clone())
    }

    fn ask(&mut self, request: &Request<'_>) {
        let name = format!("request{}", REQUESTS.fetch_add(1, Ordering::Relaxed));
        let file = |kind: &str| format!("{name}.{kind}");
        let mut curl = Curl::new("-sS -N -X").arg(request.method).within(&self.directory);
        for (name, value) in &request.fields {
            curl = curl.arg("-H").arg(format!("{name}: {value}"));
        }
        for jar in self.jar.iter().flat_map(|jar| [("-b", jar), ("-c", jar)]) {
            curl = curl.arg(jar.0).arg(jar.1);
        }
        let sent = match &request.body {
            Body::None => None,
            Body::Whole(bytes) => Some(bytes.to_vec()),
            Body::Chunks(chunks) => Some(chunks.concat()),
            Body::Endless => Some(vec![ENDLESS; ENDLESS_BYTES]),
        };
        if let Some(bytes) = &sent {
            fs::write(self.directory.join(file("sent")), bytes).unwrap();
        }
        curl = match &request.body {
            Body::None => curl,
            Body::Whole(_) => curl.arg("--data-binary").arg(format!("@{}", file("sent"))),
            Body::Chunks(_) | Body::Endless => {
                let curl = curl.arg("-H").arg("Transfer-Encoding: chunked");
                curl.arg("--limit-rate").arg("4M").arg("-T").arg(file("sent"))
            }
        };
        let (head, body) = (file("head"), file("body"));
        let curl = curl.arg("-D").arg(head).arg("-o").arg(body);
        let curl = curl.arg(format!("{}{}", self.url, request.target));
        self.running = Some((curl.start(), name));
    }

    fn answer(&mut self) -> Answer {
        let (curl, name) = self.running.take().expect("a request");
        curl.finish().expect(0);
        let (head, trailer) = Self::parse_heads(&self.read(&format!("{name}.head")));
        let body = self.read(&format!("{name}.body"));
        Answer { head, body, trailer }
    }

    fn read_some(&mut self) -> u64 {
        let name = &self.running.as_ref().expect("a request").1;
        let body = self.directory.join(format!("{name}.body"));
        let has_come = |at_least: u64| {
            eventually("some of it comes", || {
                fs::metadata(&body).ok().map(|file| file.len()).filter(|bytes| *bytes >= at_least)
            })
        };
        let some = has_come(1);
        // Bytes a megabyte behind the newest are acknowledged.
        has_come(some + (1 << 20));
        some
    }

    fn leave(mut self) {
        self.running.take().expect("a request").0.kill();
    }

    fn has_cookie_for(&self, location: &str) -> bool {
        let jar = self.jar.as_ref().map(|jar| self.read(jar)).unwrap_or_default();
        let mut lines = std::str::from_utf8(&jar).unwrap().lines();
        lines.any(|line| line.split('\t').any(|field| field.trim_matches('"') == location))
    }
}
