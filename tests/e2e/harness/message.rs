//! A session of the message API and its two parties: bare sockets that know the session's path, the host's its token
//! too. Called by the tests under `messages`.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::time::SystemTime;

use super::raw::{BodyState, Piece, Raw};
use super::relay::Relay;
use super::response::{Ending, Head, Response};
use super::tls;

/// The mount of the default configuration.
pub(crate) const MOUNT: &str = "/session";

/// The trailer field of a message that is not whole.
pub(crate) const TRUNCATED: [&str; 2] = ["X-Transfer-Status", "truncated"];

/// A session as its host sees it.
#[derive(Clone, Debug)]
pub(crate) struct MessageSession {
    pub(crate) address: SocketAddr,
    /// `<mount>/<key>`
    pub(crate) path: String,
    pub(crate) token: String,
}

/// The two roles: the host holds the token, the guest does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Host,
    Guest,
}

/// The token's cookie as an answer sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenCookie {
    pub(crate) token: String,
    pub(crate) path: String,
    pub(crate) expires: SystemTime,
}

/// A message that is read while it comes.
#[derive(Debug)]
pub(crate) struct Coming {
    pub(crate) head: Head,
    body: BodyState,
}

/// A connection to one session, in one role.
#[derive(Debug)]
pub(crate) struct Party {
    raw: Raw,
    path: String,
    cookie: Option<String>,
}

impl Relay {
    /// A basic session on the default mount.
    pub(crate) fn message_session(&self) -> MessageSession {
        self.message_session_by(MOUNT, &[])
    }

    /// Asks for a session by a `PUT` of `target` with these fields, on a connection of its own.
    pub(crate) fn message_session_by(
        &self,
        target: &str,
        fields: &[(&str, &str)],
    ) -> MessageSession {
        let mut raw = self.connect();
        let answer = raw.request("PUT", target, fields).read_response().expect_empty(201);
        let TokenCookie { token, path, .. } = answer.head.token_cookie().expect("a token");
        assert_eq!(answer.head.must("Location"), self.url(&path));
        MessageSession { address: self.address(), path, token }
    }
}

impl MessageSession {
    pub(crate) fn host(&self) -> Party {
        self.party(Role::Host)
    }

    pub(crate) fn guest(&self) -> Party {
        self.party(Role::Guest)
    }

    pub(crate) fn party(&self, role: Role) -> Party {
        self.party_on(role, Raw::connect(self.address))
    }

    /// A party at `source`, one of this machine's addresses.
    pub(crate) fn party_from(&self, role: Role, source: impl Into<IpAddr>) -> Party {
        self.party_on(role, Raw::connect_from(source.into(), self.address))
    }

    /// A party on a connection that stands already.
    pub(crate) fn party_on(&self, role: Role, raw: Raw) -> Party {
        let cookie = (role == Role::Host).then(|| format!("token=\"{}\"", self.token));
        Party { raw, path: self.path.clone(), cookie }
    }

    /// The host's `DELETE`, on a connection of its own.
    pub(crate) fn delete(&self) -> Response {
        self.host().ask("DELETE", &[]).read_response()
    }

    /// Passes one message from one party to the other, on connections of their own.
    #[track_caller]
    pub(crate) fn pass(&self, from: Role, body: &[u8]) {
        let mut receiver = self.party(from.other());
        receiver.poll();
        let mut sender = self.party(from);
        sender.post("text/plain", body);
        assert_eq!(receiver.read_response().expect(200).body, body);
        sender.expect_delivered(body.len());
    }
}

impl Role {
    pub(crate) const BOTH: [Self; 2] = [Self::Host, Self::Guest];

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Host => Self::Guest,
            Self::Guest => Self::Host,
        }
    }
}

impl Head {
    /// The token's cookie, if this answer sets it; panics where its form is not the agreed one.
    #[track_caller]
    pub(crate) fn token_cookie(&self) -> Option<TokenCookie> {
        let value = self.field("Set-Cookie")?;
        let quoted = |part: Option<&str>, name: &str| {
            let part = part.and_then(|p| p.strip_prefix(name)?.strip_prefix('"'));
            part.and_then(|p| p.strip_suffix('"')).map(str::to_owned)
        };
        let mut parts = value.split("; ");
        let token = quoted(parts.next(), "token=");
        // Most clients would take quotes as a part of the path.
        let path =
            parts.next().and_then(|p| p.strip_prefix("Path=")).filter(|p| p.starts_with('/'));
        let expires = parts.next().and_then(|p| p.strip_prefix("Expires="));
        let expires = expires.and_then(|date| httpdate::parse_http_date(date).ok());
        let seconds = parts.next().and_then(|p| p.strip_prefix("Max-Age=")?.parse::<u64>().ok());
        // Over HTTPS the cookie has one attribute more.
        let rest = parts.next().filter(|rest| *rest != "Secure" || !tls::is_spoken());
        match (token, path, expires.zip(seconds), rest.or(parts.next())) {
            (Some(token), Some(path), Some((expires, seconds)), None) => {
                // The two are taken from the clock one after the other.
                assert!(self.seconds_until(expires).abs_diff(seconds) <= 1, "{value:?}");
                Some(TokenCookie { token, path: path.to_owned(), expires })
            }
            _ => panic!("cookie {value:?}"),
        }
    }
}

impl Head {
    /// Counts from the answer's date; 0: the cookie has expired.
    fn seconds_until(&self, expires: SystemTime) -> u64 {
        let date = httpdate::parse_http_date(self.must("Date")).unwrap();
        expires.duration_since(date).unwrap_or_default().as_secs()
    }

    /// The role in which the relay sees the client.
    #[track_caller]
    pub(crate) fn role(&self) -> Role {
        match self.must("X-Role") {
            "host" => Role::Host,
            "guest" => Role::Guest,
            role => panic!("X-Role: {role}"),
        }
    }
}

impl TokenCookie {
    /// The cookie of an answer that lets a client forget its token.
    pub(crate) fn expired(path: &str) -> Self {
        let expires = SystemTime::UNIX_EPOCH;
        Self { token: String::new(), path: path.to_owned(), expires }
    }
}

impl Party {
    /// A request to the session, without a body.
    pub(crate) fn ask(&mut self, method: &str, fields: &[(&str, &str)]) -> &mut Self {
        self.ask_with_query(method, "", fields)
    }

    /// [`Party::ask`] with something like `?timeout=1` behind the path.
    pub(crate) fn ask_with_query(
        &mut self,
        method: &str,
        query: &str,
        fields: &[(&str, &str)],
    ) -> &mut Self {
        let target = format!("{}{query}", self.path);
        let cookie = self.cookie.as_deref().map(|cookie| ("Cookie", cookie));
        let fields: Vec<_> = fields.iter().copied().chain(cookie).collect();
        self.raw.request(method, &target, &fields);
        self
    }

    /// Waits for a message, which is read by [`Raw::read_response`].
    pub(crate) fn poll(&mut self) -> &mut Self {
        self.ask("GET", &[])
    }

    /// A message with its whole body.
    pub(crate) fn post(&mut self, kind: &str, body: &[u8]) -> &mut Self {
        let length = body.len().to_string();
        self.ask("POST", &[("Content-Type", kind), ("Content-Length", &length)]);
        self.raw.send(body);
        self
    }

    /// The head of a message whose body comes in chunks.
    pub(crate) fn post_in_chunks(&mut self) -> &mut Self {
        let fields = [("Content-Type", "text/plain"), ("Transfer-Encoding", "chunked")];
        self.ask("POST", &fields)
    }

    /// Sends another cookie from now on: a wrong token, or a token in another form.
    pub(crate) fn says_cookie(mut self, cookie: impl Into<String>) -> Self {
        self.cookie = Some(cookie.into());
        self
    }

    /// Panics unless the message was delivered, and `bytes` were.
    #[track_caller]
    pub(crate) fn expect_delivered(&mut self, bytes: usize) -> Response {
        let answer = self.raw.read_response().expect_empty(200);
        assert_eq!(answer.head.delivered_bytes(), bytes as u64);
        answer
    }

    pub(crate) fn into_raw(self) -> Raw {
        self.raw
    }
}

impl Raw {
    /// The head of a message, which is read on piece by piece.
    #[track_caller]
    pub(crate) fn read_coming(&mut self) -> Coming {
        let head = self.read_head();
        assert_eq!(head.status, 200, "{head:#?}");
        let body = self.body_of(&head).expect("a body");
        Coming { head, body }
    }
}

impl Coming {
    /// Panics unless the next bytes are these.
    #[track_caller]
    pub(crate) fn expect(&mut self, raw: &mut Raw, bytes: &[u8]) {
        let mut came = vec![0; bytes.len()];
        let mut done = 0;
        while done < bytes.len() {
            match raw.read_piece(&mut self.body, &mut came[done..]) {
                Piece::Bytes(n) => done += n,
                Piece::End(ending) => panic!("{ending:?} after {done} of {} bytes", bytes.len()),
            }
        }
        assert!(came == bytes, "other bytes than were sent");
    }

    /// Reads the rest of the body; returns it, how it ended, and the trailer.
    pub(crate) fn rest(mut self, raw: &mut Raw) -> (Vec<u8>, Ending, Vec<(String, String)>) {
        let mut rest = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match raw.read_piece(&mut self.body, &mut buffer) {
                Piece::Bytes(n) => rest.extend_from_slice(&buffer[..n]),
                Piece::End(ending) => return (rest, ending, raw.take_trailer()),
            }
        }
    }

    /// Panics unless no more bytes come, and the answer shows that the body is not whole.
    #[track_caller]
    pub(crate) fn expect_cut(self, raw: &mut Raw) {
        let (rest, ending, trailer) = self.rest(raw);
        assert_eq!(rest.len(), 0, "more bytes");
        assert!(
            ending != Ending::Complete || says_truncated(&trailer),
            "an end that looks whole; trailer {trailer:?}"
        );
    }
}

/// Whether a trailer is the one field that it has to be; a proxy may write its name in small letters.
fn says_truncated(trailer: &[(String, String)]) -> bool {
    let [(name, value)] = trailer else { return false };
    name.eq_ignore_ascii_case(TRUNCATED[0]) && value == TRUNCATED[1]
}

impl Deref for Party {
    type Target = Raw;

    fn deref(&self) -> &Raw {
        &self.raw
    }
}

impl DerefMut for Party {
    fn deref_mut(&mut self) -> &mut Raw {
        &mut self.raw
    }
}
