//! The message relay: sessions in which a host and a guest long-poll for each other's messages.
//!
//! Whoever brings the session's token is its host, anybody else its guest. A guest's `POST` answers
//! the host's `GET` on one lane, a host's `POST` the guest's `GET` on the other; what happens on a
//! lane is the relay's, as for the two-step exchange.

use super::answer::{Answer, Asked};
use super::issuing;
use super::origin::Origin;
use super::outcomes::BARRED;
use super::preview::{self, Behind};
use super::request::{self, Label};
use super::route::{self, Action, Errand, not_allowed, unknown, without_body};
use super::safe_conduct::SafeConduct;
use super::waiting::{self, Waiting};
use crate::http::{Method, Request, Status, expired_token_cookie};
use crate::relay::{Manner, MessageRole, Relay, Renewal};
use crate::session::{Kind, Session, SessionKey};
use shm::Direction;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

const MOUNT_METHODS: &str = "PUT";
const SESSION_METHODS: &str = "GET, HEAD, POST, PUT, DELETE";

/// What may be done at `below`, which stands behind the mount.
pub(super) fn methods(below: &str) -> &'static str {
    if below.is_empty() { MOUNT_METHODS } else { SESSION_METHODS }
}

/// Decides what `request` asks for, whose path is the mount and then `below`, and notes in `asked` whose it is.
pub(super) fn route(
    relay: &Relay,
    request: &Request<'_>,
    asked: &mut Asked,
    origin: &Origin<'_>,
    below: &str,
    now_ms: u64,
) -> Action {
    asked.role = Some(MessageRole::Guest);
    if below.is_empty() {
        return match request.method {
            Method::Put if asked.unread => route::takes_no_body(asked).into(),
            Method::Put => {
                let issued = issue(relay, request, asked, origin, now_ms);
                if issued.is_ok() {
                    asked.role = Some(MessageRole::Host);
                }
                issued.unwrap_or_else(|error| error).into()
            }
            _ => not_allowed(MOUNT_METHODS, asked).into(),
        };
    }
    let key = key(below);
    let party = key.as_ref().and_then(|key| Party::find(relay, request, origin, key, now_ms));
    if let Some(party) = &party {
        asked.role = Some(party.role());
    }
    if let Method::Options | Method::Other = request.method {
        return not_allowed(SESSION_METHODS, asked).into();
    }
    match party {
        Some(party) => party.route(relay, request, asked).unwrap_or_else(Action::from),
        None if key.is_some() => gone(relay, request, asked, now_ms).into(),
        None => route::no_such_path("no session has such a path", asked).into(),
    }
}

/// What the client is to the session that its path names.
pub(super) fn role(relay: &Relay, request: &Request<'_>, below: &str, now_ms: u64) -> MessageRole {
    let session = key(below).and_then(|key| find(relay, &key, now_ms));
    match session.and_then(|session| request::token(request, &session)) {
        Some(_) => MessageRole::Host,
        None => MessageRole::Guest,
    }
}

fn key(below: &str) -> Option<SessionKey> {
    below.strip_prefix('/').and_then(SessionKey::parse)
}

fn find(relay: &Relay, key: &SessionKey, now_ms: u64) -> Option<Session> {
    route::find(relay, key, |kind| kind != Kind::Exchange, now_ms)
}

/// Nothing lives here (any more): whoever kept a token for it may forget it.
fn gone(relay: &Relay, request: &Request<'_>, asked: &Asked, now_ms: u64) -> Answer {
    unknown(relay, asked, now_ms).with("Set-Cookie", expired_token_cookie(request.path))
}

/// Issues a session to its host, or says why not.
fn issue(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    origin: &Origin<'_>,
    now_ms: u64,
) -> Result<Answer, Answer> {
    issuing::admit(relay, request, asked, now_ms)?;
    let kind = kind(request, asked)?;
    let lifetime =
        request::timeout(request, asked)?.unwrap_or(relay.config.timeouts.session_lifetime);
    let lifetime = lifetime.min(relay.config.messages.session_lifetime_max);
    let issued = route::issue(relay, asked, kind, lifetime, now_ms)?;
    let path = format!("{}/{}", relay.config.messages.mount, issued.key);
    let url = origin.url(&path);
    let conduct =
        SafeConduct { issued: &issued, url: &url, issued_at: SystemTime::now(), lifetime };
    let answer = match conduct.document(request, Some(kind.label())) {
        Some(document) => Answer::json(Status::Created, document),
        None => Answer::empty(Status::Created),
    };
    let (token, https) = (issued.token.to_string(), origin.is_https());
    let cookie = Renewal { token, path, https, lifetime }.cookie();
    let answer = answer.with("Location", url).with("Set-Cookie", cookie);
    Ok(answer.with("X-Type", kind.label()))
}

/// The kind that is asked for, by `X-Type` or else by `?secure=`.
fn kind(request: &Request<'_>, asked: &Asked) -> Result<Kind, Answer> {
    match (request.field("x-type"), request.query_value("secure")) {
        (Some(b"secure"), _) | (None, Some("true")) => Ok(Kind::Secure),
        (Some(b"basic"), _) | (None, None | Some("false")) => Ok(Kind::Basic),
        (Some(_), _) => Err(Answer::bad_request("X-Type: basic or secure", asked)),
        (None, Some(_)) => Err(Answer::bad_request("?secure=true or false", asked)),
    }
}

/// Somebody who knows the key.
struct Party {
    session: Session,
    /// The host's cookie, which its answers renew. `None`: it is a guest.
    renewal: Option<Box<Renewal>>,
}

impl Party {
    fn find(
        relay: &Relay,
        request: &Request<'_>,
        origin: &Origin<'_>,
        key: &SessionKey,
        now_ms: u64,
    ) -> Option<Self> {
        let session = find(relay, key, now_ms)?;
        let renewal = request::token(request, &session).map(|token| {
            let token = String::from_utf8_lossy(token).into_owned();
            let (path, https) = (request.path.to_owned(), origin.is_https());
            Box::new(Renewal { token, path, https, lifetime: session.lifetime })
        });
        Some(Self { session, renewal })
    }

    fn role(&self) -> MessageRole {
        if self.is_host() { MessageRole::Host } else { MessageRole::Guest }
    }

    fn is_host(&self) -> bool {
        self.renewal.is_some()
    }

    /// In which direction it receives, and in which it sends.
    fn directions(&self) -> (Direction, Direction) {
        match self.is_host() {
            true => (Direction::Forth, Direction::Back),
            false => (Direction::Back, Direction::Forth),
        }
    }

    fn route(self, relay: &Relay, request: &Request<'_>, asked: &Asked) -> Result<Action, Answer> {
        let answer = match request.method {
            Method::Get if request::is_prefetch(request) => return Err(route::prefetched(asked)),
            Method::Get if !self.is_host() && preview::is_previewer(relay, request) => {
                self.let_in(relay, asked)?;
                return Ok(without_body(asked, || preview::page(Behind::Messages).into()));
            }
            Method::Get => return self.receive(relay, request, asked),
            Method::Post => return self.send(relay, request, asked),
            _ if asked.unread => Err(route::takes_no_body(asked)),
            Method::Put => self.name_guest(relay, request, asked),
            Method::Delete => self.delete(relay, request, asked),
            _ => self.look(relay, asked),
        };
        answer.map(Action::from)
    }

    fn receive(
        self,
        relay: &Relay,
        request: &Request<'_>,
        asked: &Asked,
    ) -> Result<Action, Answer> {
        let admitted_as = self.let_in(relay, asked)?;
        let (direction, _) = self.directions();
        let (lane, wait) = (self.session.at.lane(direction), wait(relay, request, asked)?);
        let manner = Manner::Message { renewal: self.renewal };
        let errand = Errand::Receive(request::reception(asked, manner, admitted_as));
        Ok(without_body(asked, || Action::Enter { lane, errand, wait }))
    }

    fn send(self, relay: &Relay, request: &Request<'_>, asked: &Asked) -> Result<Action, Answer> {
        let admitted_as = self.let_in(relay, asked)?;
        let (_, direction) = self.directions();
        let (lane, wait) = (self.session.at.lane(direction), wait(relay, request, asked)?);
        let for_guest = self.is_host() && self.session.kind == Kind::Secure;
        let (receipt, manner) =
            (relay.config.messages.receipt, Manner::Message { renewal: self.renewal });
        let label = Label { form: None, name: None, receipt, manner, admitted_as, for_guest };
        let cargo = request::cargo(relay, request, asked, label)?;
        Ok(Action::Enter { lane, errand: Errand::Send(Box::new(cargo)), wait })
    }

    /// The answer to `HEAD`.
    fn look(&self, relay: &Relay, asked: &Asked) -> Result<Answer, Answer> {
        self.let_in(relay, asked)?;
        let (here, there) = self.directions();
        let look = |direction| Waiting::look(relay, self.session.at.lane(direction), asked);
        let answer = waiting::in_messages(look(here)?, look(there)?);
        Ok(match &self.renewal {
            Some(renewal) => answer.with("Set-Cookie", renewal.cookie()),
            None => answer,
        })
    }

    /// Whether it may use the session: of a secure one's guests, only the one whose address the host
    /// has named. Returns who it is let in as; 0: as anybody.
    fn let_in(&self, relay: &Relay, asked: &Asked) -> Result<u64, Answer> {
        if self.is_host() || self.session.kind != Kind::Secure {
            return Ok(0);
        }
        let guest = relay.addresses.guest(asked.client, self.session.at);
        if self.session.guest == guest {
            return Ok(guest);
        }
        Err(Answer::error(Status::Forbidden, BARRED, asked))
    }

    /// Names the guest's address, in place of the one that was named before.
    fn name_guest(
        &self,
        relay: &Relay,
        request: &Request<'_>,
        asked: &Asked,
    ) -> Result<Answer, Answer> {
        let renewal = self.renewal.as_ref().ok_or_else(|| route::token_needed(asked))?;
        if self.session.kind != Kind::Secure {
            return Err(Answer::bad_request("this session is not a secure one", asked));
        }
        let address = request.field("x-peer-address").and_then(|text| str::from_utf8(text).ok());
        let address = address.and_then(|text| text.parse::<IpAddr>().ok());
        let Some(address) = address else {
            return Err(Answer::bad_request("X-Peer-Address: an IP address", asked));
        };
        let at = self.session.at;
        let guest = relay.addresses.guest(address, at);
        // Whoever waits as the one who was named before hears that it is no longer.
        let named = relay.shared().set_guest(at, guest, |owner| relay.ring(owner, at.slot));
        if let Err(refusal) = named {
            return Err(route::damaged(refusal, at.slot, asked));
        }
        Ok(Answer::empty(Status::Ok).with("Set-Cookie", renewal.cookie()))
    }

    fn delete(
        &self,
        relay: &Relay,
        request: &Request<'_>,
        asked: &Asked,
    ) -> Result<Answer, Answer> {
        if !self.is_host() {
            return Err(route::token_needed(asked));
        }
        route::delete(relay, asked, &self.session)?;
        Ok(Answer::empty(Status::Ok).with("Set-Cookie", expired_token_cookie(request.path)))
    }
}

/// How long `request` would wait for the other party.
fn wait(relay: &Relay, request: &Request<'_>, asked: &Asked) -> Result<Duration, Answer> {
    let wait = request::timeout(request, asked)?.unwrap_or(relay.config.messages.wait_timeout);
    Ok(wait.min(relay.config.messages.wait_timeout_max))
}
