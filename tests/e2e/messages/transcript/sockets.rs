//! The transcript's client as a bare socket, which stays connected as long as the answers let it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use super::client::{Answer, Body, Client, ENDLESS, Request};
use crate::harness::{Coming, Ending, Head, Raw, Relay};

/// A connection that stays, a jar of its own, and the message that it reads.
#[derive(Debug)]
pub(super) struct OverSockets {
    address: SocketAddr,
    raw: Raw,
    /// Tokens by path; `None` for a client that keeps no cookies.
    jar: Option<BTreeMap<String, String>>,
    coming: Option<(Coming, Vec<u8>)>,
}

impl OverSockets {
    fn new(relay: &Relay, jar: Option<BTreeMap<String, String>>) -> Self {
        Self { address: relay.address(), raw: relay.connect(), jar, coming: None }
    }

    fn keep_cookie(&mut self, head: &Head) {
        if let (Some(jar), Some(cookie)) = (&mut self.jar, head.token_cookie()) {
            if cookie.expires < SystemTime::now() {
                jar.remove(&cookie.path);
            } else {
                jar.insert(cookie.path, cookie.token);
            }
        }
    }
}

impl Client for OverSockets {
    fn host(relay: &Relay) -> Self {
        Self::new(relay, Some(BTreeMap::new()))
    }

    fn guest(relay: &Relay) -> Self {
        Self::new(relay, None)
    }

    fn host_like(relay: &Relay, first: &Self) -> Self {
        Self::new(relay, first.jar.clone())
    }

    fn ask(&mut self, request: &Request<'_>) {
        let token = self.jar.as_ref().and_then(|jar| jar.get(request.target));
        let cookie = token.map(|token| format!("token=\"{token}\""));
        let length = match &request.body {
            Body::Whole(bytes) => Some(bytes.len().to_string()),
            _ => None,
        };
        let chunked = matches!(request.body, Body::Chunks(_) | Body::Endless);
        let mut fields = request.fields.clone();
        fields.extend(cookie.as_deref().map(|cookie| ("Cookie", cookie)));
        fields.extend(length.as_deref().map(|length| ("Content-Length", length)));
        fields.extend(chunked.then_some(("Transfer-Encoding", "chunked")));
        self.raw.request(request.method, request.target, &fields);
        match &request.body {
            Body::None => {}
            Body::Whole(bytes) => self.raw.send(bytes),
            Body::Chunks(chunks) => {
                chunks.iter().for_each(|chunk| self.raw.send_chunk(chunk));
                self.raw.send_last_chunk();
            }
            Body::Endless => self.raw.send_chunk(&[ENDLESS; 1000]),
        }
    }

    fn answer(&mut self) -> Answer {
        let (head, body, ending, trailer) = match self.coming.take() {
            Some((coming, mut body)) => {
                let head = coming.head.clone();
                let (rest, ending, trailer) = coming.rest(&mut self.raw);
                body.extend(rest);
                (head, body, ending, trailer)
            }
            None => {
                let answer = self.raw.read_response();
                (answer.head, answer.body, answer.ending, answer.trailer)
            }
        };
        assert_eq!(ending, Ending::Complete);
        self.keep_cookie(&head);
        if head.closes() {
            self.raw = Raw::connect(self.address);
        }
        Answer { head, body, trailer }
    }

    fn read_some(&mut self) -> u64 {
        let mut coming = self.raw.read_coming();
        let some = [ENDLESS; 1000];
        coming.expect(&mut self.raw, &some);
        self.coming = Some((coming, some.to_vec()));
        some.len() as u64
    }

    fn leave(self) {
        self.raw.wait_until_acknowledged();
        self.raw.reset();
    }

    fn has_cookie_for(&self, location: &str) -> bool {
        self.jar.as_ref().is_some_and(|jar| jar.contains_key(location))
    }
}
