//! The host or the guest of a session of messages, and the purpose of its request.
//!
//! A guest's `POST` answers the host's `GET` on one lane, a host's `POST` the guest's `GET` on the other. The relay
//! handles a lane as it does for the exchange. Invariant: of the guests of a secure session, only the one whose address
//! the host has authorized may use it.

use std::net::IpAddr;
use std::time::Duration;

use shm::{AddressTag, Direction, Want};

use super::action::{Action, PlaceRequest};
use super::incoming::Incoming;
use super::preview::{self, Behind};
use super::waiting::{self, Waiting};
use super::{part, request, sessions};
use crate::api::{Answer, Api, FORBIDDEN, MessageRole, Renewal, RequestInfo};
use crate::http::{Method, Request, Status, expired_token_cookie};
use crate::relay::{Cx, Env, SendRequest};
use crate::session::{Kind, Session, SessionKey};

/// A client that knows the session's key.
pub(super) struct Party {
    session: Session,
    /// The host's cookie, which its answers renew. `None`: the client is a guest.
    renewal: Option<Box<Renewal>>,
}

impl Party {
    /// The party to the session that `key` names, if that lives.
    pub(super) fn find(cx: Cx<'_>, incoming: Incoming<'_>, key: &SessionKey) -> Option<Self> {
        let Incoming { request, origin, .. } = incoming;
        let session = sessions::find(cx, key, |kind| kind != Kind::Exchange)?;
        let renewal = request::token(request, &session).map(|token| {
            let token = String::from_utf8_lossy(token).into_owned();
            let (path, https) = (request.path.to_owned(), origin.is_https());
            Box::new(Renewal { token, path, https, lifetime: session.lifetime })
        });
        Some(Self { session, renewal })
    }

    pub(super) fn role(&self) -> MessageRole {
        if self.is_host() { MessageRole::Host } else { MessageRole::Guest }
    }

    fn is_host(&self) -> bool {
        self.renewal.is_some()
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
                self.check_guest(env, info)?;
                return Ok(incoming.without_body(|| preview::page(Behind::Messages).into()));
            }
            Method::Get => return self.receive(env, incoming),
            Method::Post => return self.send(env, incoming),
            _ if info.unread => Err(Answer::takes_no_body(info)),
            Method::Put => self.authorize_guest(env, request, info),
            Method::Delete => self.delete(cx, incoming),
            _ => self.look(env, info),
        };
        answer.map(Action::from)
    }

    fn receive(self, env: &Env, incoming: Incoming<'_>) -> Result<Action, Answer> {
        let Incoming { request, info, .. } = incoming;
        let guest = self.check_guest(env, info)?;
        part::refuse_rest(request, info)?;
        let (direction, _) = self.directions();
        let (lane, wait) = (self.session.at.lane(direction), wait(env, incoming)?);
        let api = Api::Messages { renewal: self.renewal };
        let receive_request = request::receive_request(info, api, Want::Whole, guest);
        let place_request = PlaceRequest::Receive(receive_request);
        Ok(incoming.without_body(|| Action::Claim { lane, place_request, wait }))
    }

    fn send(self, env: &Env, incoming: Incoming<'_>) -> Result<Action, Answer> {
        let Incoming { request, info, .. } = incoming;
        let guest = self.check_guest(env, info)?;
        let (_, direction) = self.directions();
        let (lane, wait) = (self.session.at.lane(direction), wait(env, incoming)?);
        let for_guest = self.is_host() && self.session.kind == Kind::Secure;
        part::refuse_part(request, info)?;
        let api = Api::Messages { renewal: self.renewal };
        let send_request = request::send_request(env, incoming, api, None)?;
        let send_request = SendRequest { guest, for_guest, ..send_request };
        Ok(Action::Claim { lane, place_request: PlaceRequest::Send(Box::new(send_request)), wait })
    }

    /// The answer to `HEAD`.
    fn look(&self, env: &Env, info: &RequestInfo) -> Result<Answer, Answer> {
        self.check_guest(env, info)?;
        let (here, there) = self.directions();
        let look = |direction| Waiting::look(env, self.session.at.lane(direction), info);
        let answer = waiting::in_messages(look(here)?, look(there)?);
        Ok(match &self.renewal {
            Some(renewal) => answer.with("Set-Cookie", renewal.cookie()),
            None => answer,
        })
    }

    /// Refuses a guest that is not authorized: only one guest may use a secure session. Returns the tag of the
    /// guest's address; `None`: any client may use the session.
    fn check_guest(&self, env: &Env, info: &RequestInfo) -> Result<Option<AddressTag>, Answer> {
        if self.is_host() || self.session.kind != Kind::Secure {
            return Ok(None);
        }
        let guest = Some(env.addresses.guest(info.client, self.session.at));
        if self.session.guest == guest {
            return Ok(guest);
        }
        Err(Answer::error(Status::Forbidden, FORBIDDEN, info))
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
        if !self.is_host() {
            return Err(Answer::token_needed(info));
        }
        sessions::delete(cx, &self.session, info)?;
        Ok(Answer::empty(Status::Ok).with("Set-Cookie", expired_token_cookie(request.path)))
    }
}

/// The time that a request waits for the other party.
fn wait(env: &Env, Incoming { request, info, .. }: Incoming<'_>) -> Result<Duration, Answer> {
    let wait = request::timeout(request, info)?.unwrap_or(env.config.messages.wait_timeout);
    Ok(wait.min(env.config.messages.wait_timeout_max))
}
