//! The host or the guest of a session of messages, and the purpose of its request.
//!
//! A guest's `POST` answers the host's `GET` on one lane, a host's `POST` the guest's `GET` on the other. The relay
//! handles a lane as it does for the exchange. Invariant: of the guests of a secure session, only the one whose address
//! the host has authorized may use it, and of those of a session with a nameplate, only the first.

use std::net::IpAddr;
use std::time::Duration;

use shm::{AddressTag, Direction, Want};

use super::action::{Action, PlaceRequest};
use super::incoming::Incoming;
use super::preview::{self, Behind};
use super::target::MessagesPath;
use super::waiting::{self, Waiting};
use super::{part, request, sessions};
use crate::api::{Answer, Api, FORBIDDEN, MessageRole, Renewal, RequestInfo};
use crate::http::{Method, Request, Status, expired_token_cookie};
use crate::relay::{Cx, Env, SendRequest};
use crate::session::{Kind, Session};

/// What a guest of a session with a nameplate is told that brings no mark.
const MARK_NEEDED: &str =
    "X-Guest: a mark of your own, 16 to 64 letters, digits, - and _, that strangers cannot guess";

/// A client that knows the session's key or nameplate.
pub(super) struct Party {
    session: Session,
    /// The host's cookie, which its answers renew. `None`: the client is a guest.
    renewal: Option<Box<Renewal>>,
    /// The tag by which a guest is known; `None` where all guests are alike.
    tag: Option<AddressTag>,
}

impl Party {
    /// The party to the session that `path` names, if that lives.
    pub(super) fn find(cx: Cx<'_>, incoming: Incoming<'_>, path: &MessagesPath) -> Option<Self> {
        let Incoming { request, origin, info } = incoming;
        let session = match path {
            MessagesPath::Session(key) => sessions::find(cx, key, Kind::is_of_messages),
            MessagesPath::Nameplate(nameplate) => sessions::find_named(cx, (*nameplate)?),
            MessagesPath::Mount | MessagesPath::NoSession => None,
        }?;
        // The path with the nameplate is the guest's alone, as strangers can guess it.
        let is_hosts = matches!(path, MessagesPath::Session(_));
        let token = is_hosts.then(|| request::token(request, &session)).flatten();
        let renewal = token.map(|token| {
            let token = String::from_utf8_lossy(token).into_owned();
            let (path, https) = (request.path.to_owned(), origin.is_https());
            Box::new(Renewal { token, path, https, lifetime: session.lifetime })
        });
        let addresses = &cx.env.addresses;
        let tag = match session.kind {
            _ if renewal.is_some() => None,
            Kind::Exchange | Kind::Pair | Kind::Basic => None,
            Kind::Secure => Some(addresses.guest(info.client, session.at)),
            Kind::Nameplate => {
                request::guest_mark(request).map(|mark| addresses.marked_guest(mark, session.at))
            }
        };
        Some(Self { session, renewal, tag })
    }

    pub(super) fn role(&self) -> MessageRole {
        if self.is_host() { MessageRole::Host } else { MessageRole::Guest }
    }

    fn is_host(&self) -> bool {
        self.renewal.is_some()
    }

    /// Whether the session knows the client: as its host, or as the guest that it has.
    pub(super) fn is_known(&self) -> bool {
        self.is_host() || (self.tag.is_some() && self.session.guest == self.tag)
    }

    /// The direction in which it receives, and the one in which it sends.
    fn directions(&self) -> (Direction, Direction) {
        match self.is_host() {
            true => (Direction::Forth, Direction::Back),
            false => (Direction::Back, Direction::Forth),
        }
    }

    /// Decides what the request asks for.
    pub(super) fn route(self, cx: Cx<'_>, incoming: Incoming<'_>) -> Result<Action, Answer> {
        let Incoming { request, info, .. } = incoming;
        let env = cx.env;
        let answer = match request.method {
            Method::Get if request::is_prefetch(request) => return Err(Answer::prefetched(info)),
            Method::Get if !self.is_host() && preview::is_previewer(env, request) => {
                self.check_looker(info)?;
                return Ok(incoming.without_body(|| preview::page(Behind::Messages).into()));
            }
            Method::Get => return self.receive(cx, incoming),
            Method::Post => return self.send(cx, incoming),
            _ if info.unread => Err(Answer::takes_no_body(info)),
            Method::Put => self.authorize_guest(env, request, info),
            Method::Delete => self.delete(cx, incoming),
            _ => self.look(cx, info),
        };
        answer.map(Action::from)
    }

    fn receive(self, cx: Cx<'_>, incoming: Incoming<'_>) -> Result<Action, Answer> {
        let (env, Incoming { request, info, .. }) = (cx.env, incoming);
        if info.unread {
            return Err(Answer::takes_no_body(info));
        }
        part::refuse_rest(request, info)?;
        let (direction, _) = self.directions();
        let (lane, wait) = (self.session.at.lane(direction), wait(env, incoming)?);
        // Last: a request that is refused for another reason makes nobody the guest.
        let is_host = self.is_host();
        let guest = if is_host { None } else { admit(cx, info, &self.session, self.tag)? };
        let api = Api::Messages { renewal: self.renewal };
        let receive_request = request::receive_request(info, api, Want::Whole, guest);
        let place_request = PlaceRequest::Receive(receive_request);
        Ok(Action::Claim { lane, place_request, wait })
    }

    fn send(self, cx: Cx<'_>, incoming: Incoming<'_>) -> Result<Action, Answer> {
        let (env, Incoming { request, info, .. }) = (cx.env, incoming);
        let (session, tag, is_host) = (self.session, self.tag, self.is_host());
        let (_, direction) = self.directions();
        let (lane, wait) = (self.session.at.lane(direction), wait(env, incoming)?);
        let for_guest = self.is_host() && self.session.kind == Kind::Secure;
        part::refuse_part(request, info)?;
        let api = Api::Messages { renewal: self.renewal };
        let send_request = request::send_request(env, incoming, api, None)?;
        // Last, as in `receive`.
        let guest = if is_host { None } else { admit(cx, info, &session, tag)? };
        let send_request = SendRequest { guest, for_guest, ..send_request };
        Ok(Action::Claim { lane, place_request: PlaceRequest::Send(Box::new(send_request)), wait })
    }

    /// The answer to `HEAD`.
    fn look(&self, cx: Cx<'_>, info: &RequestInfo) -> Result<Answer, Answer> {
        let env = cx.env;
        self.check_looker(info)?;
        let (here, there) = self.directions();
        let look = |direction| Waiting::look(env, self.session.at.lane(direction), info);
        let answer = waiting::in_messages(look(here)?, look(there)?);
        Ok(match &self.renewal {
            Some(renewal) => answer.with("Set-Cookie", renewal.cookie()),
            None => answer,
        })
    }

    /// Refuses a client that only looks as [`admit`] does. It becomes nobody's guest.
    fn check_looker(&self, info: &RequestInfo) -> Result<(), Answer> {
        let is_open = match self.session.kind {
            Kind::Exchange | Kind::Pair | Kind::Basic => true,
            Kind::Secure => false,
            Kind::Nameplate => self.session.guest.is_none(),
        };
        if is_open || self.is_known() { Ok(()) } else { Err(forbidden(info, &self.session)) }
    }

    /// Authorizes the guest with the given address, in place of any guest before.
    fn authorize_guest(
        &self,
        env: &Env,
        request: &Request<'_>,
        info: &RequestInfo,
    ) -> Result<Answer, Answer> {
        let renewal = self.renewal.as_ref().ok_or_else(|| Answer::token_needed(info))?;
        if self.session.kind != Kind::Secure {
            return Err(Answer::bad_request("this session is not secure", info));
        }
        let address = request.field("x-peer-address").and_then(|text| str::from_utf8(text).ok());
        let address = address.and_then(|text| text.parse::<IpAddr>().ok());
        let Some(address) = address else {
            return Err(Answer::bad_request("X-Peer-Address: an IP address", info));
        };
        let at = self.session.at;
        let guest = env.addresses.guest(address, at);
        // A client that waits as the guest before hears the bell, and finds that it is forbidden now.
        let named = env.shared().set_guest(at, guest, |owner| env.ring(owner, at.slot));
        if let Err(refusal) = named {
            return Err(Answer::damaged(refusal, at.slot, info));
        }
        Ok(Answer::empty(Status::Ok).with("Set-Cookie", renewal.cookie()))
    }

    fn delete(&self, cx: Cx<'_>, incoming: Incoming<'_>) -> Result<Answer, Answer> {
        let Incoming { request, info, .. } = incoming;
        // The one guest of a session with a nameplate may end it, too.
        if !(self.is_host() || self.session.kind == Kind::Nameplate && self.is_known()) {
            return Err(Answer::token_needed(info));
        }
        sessions::delete(cx, &self.session, info)?;
        Ok(Answer::empty(Status::Ok).with("Set-Cookie", expired_token_cookie(request.path)))
    }
}

/// Refuses a guest that may not use the session: only one guest may use a secure session, or a session with a nameplate.
/// Returns the tag of that guest; `None`: any client may use the session. The first guest of a session with a nameplate
/// becomes its guest by this.
fn admit(
    cx: Cx<'_>,
    info: &RequestInfo,
    session: &Session,
    tag: Option<AddressTag>,
) -> Result<Option<AddressTag>, Answer> {
    let is_guest = match (session.kind, tag) {
        (Kind::Exchange | Kind::Pair | Kind::Basic, _) => return Ok(None),
        (Kind::Secure, tag) => session.guest == tag,
        (Kind::Nameplate, None) => return Err(Answer::bad_request(MARK_NEEDED, info)),
        (Kind::Nameplate, Some(guest)) => {
            let claimed = cx.env.shared().claim_guest(session.at, guest);
            let claimed =
                claimed.map_err(|refusal| Answer::damaged(refusal, session.at.slot, info))?;
            claimed.ok_or_else(|| Answer::no_session(info))?
        }
    };
    if is_guest { Ok(tag) } else { Err(forbidden(info, session)) }
}

fn forbidden(info: &RequestInfo, session: &Session) -> Answer {
    let text = match session.kind {
        Kind::Nameplate => "another guest came first: ask the host for a new session",
        _ => FORBIDDEN,
    };
    Answer::error(Status::Forbidden, text, info)
}

/// The time that a request waits for the other party.
fn wait(env: &Env, Incoming { request, info, .. }: Incoming<'_>) -> Result<Duration, Answer> {
    let wait = request::timeout(request, info)?.unwrap_or(env.config.messages.wait_timeout);
    Ok(wait.min(env.config.messages.wait_timeout_max))
}
