//! The exchange: the purpose of each request for one of its paths.

use std::time::{Duration, SystemTime};

use shm::{Direction, Passed};

use super::action::{Action, PlaceRequest};
use super::incoming::Incoming;
use super::part::{self, Described};
use super::preview::{self, Behind};
use super::safe_conduct::SafeConduct;
use super::target::{ExchangePath, FILE_METHODS, FilePath, ROBOTS_METHODS, ROOT_METHODS};
use super::usage::{session_first, usage};
use super::{issuing, past, request, sessions, waiting};
use crate::api::ApiName;
use crate::api::{Answer, Api};
use crate::http::{FileName, Method, Status};
use crate::multipart::{self, Multipart};
use crate::relay::{Cx, Env, Offer, SendRequest};
use crate::session::{KEY_CHARS, Kind, Session};

/// The text for crawlers: there is nothing to find.
const ROBOTS: &str = "User-agent: *\nDisallow: /\n";

/// Decides what a request for `path` asks for.
pub(super) fn route(cx: Cx<'_>, incoming: Incoming<'_>, path: &ExchangePath<'_>) -> Action {
    let Incoming { request, info, origin } = incoming;
    match (path, request.method) {
        (ExchangePath::Root, _) => root(cx, incoming),
        (ExchangePath::Robots, Method::Get | Method::Head) => {
            incoming.without_body(|| Answer::text(Status::Ok, ROBOTS).into())
        }
        (ExchangePath::Robots, Method::Delete | Method::Options | Method::Other) => {
            Answer::not_allowed(ROBOTS_METHODS, info).into()
        }
        (_, Method::Options | Method::Other) => Answer::not_allowed(FILE_METHODS, info).into(),
        (ExchangePath::File(path), _) => file(cx, incoming, path),
        (ExchangePath::Robots | ExchangePath::NoSession, Method::Post | Method::Put) => {
            Answer::no_such_path(&session_first(cx.env, origin), info).into()
        }
        (ExchangePath::NoSession, _) => {
            let text = format!("not a session's URL: a key has {KEY_CHARS} characters");
            Answer::no_such_path(&text, info).into()
        }
        (ExchangePath::TooDeep, _) => {
            let text = "not a session's URL: only a file name may follow the key";
            Answer::no_such_path(text, info).into()
        }
    }
}

fn root(cx: Cx<'_>, incoming: Incoming<'_>) -> Action {
    let Incoming { request, info, origin } = incoming;
    match request.method {
        Method::Get | Method::Head => incoming.without_body(|| usage(cx.env, origin).into()),
        Method::Post if info.unread => {
            Answer::bad_request(&session_first(cx.env, origin), info).into()
        }
        Method::Post => issue(cx, incoming).into(),
        Method::Put => {
            let tell = |_: &str| session_first(cx.env, origin);
            Answer::not_allowed_saying(tell, ROOT_METHODS, info).into()
        }
        _ => Answer::not_allowed(ROOT_METHODS, info).into(),
    }
}

/// Issues a session: the answer is the safe-conduct.
fn issue(cx: Cx<'_>, incoming: Incoming<'_>) -> Result<Answer, Answer> {
    let Incoming { request, info, origin } = incoming;
    issuing::may_issue(cx, incoming)?;
    let lifetime = cx.env.config.timeouts.session_lifetime;
    let issued = sessions::issue(cx, info, Kind::Exchange, lifetime)?;
    let (path, token) = (format!("/{}", issued.key), &issued.token);
    let url = origin.url(&path);
    let conduct =
        SafeConduct { issued: &issued, url: &url, issued_at: SystemTime::now(), lifetime };
    let answer = match conduct.document(request, None) {
        Some(document) => Answer::json(Status::Created, document),
        None => Answer::text(Status::Created, format!("{url}\n")),
    };
    let (expires, secure) = (conduct.expires(), if origin.is_https() { "; Secure" } else { "" });
    let cookie = format!("token={token}; HttpOnly; SameSite=Strict; Path={path}{secure}");
    let answer = answer.with("Location", url).with("Set-Cookie", cookie);
    Ok(answer.with("X-Session-Expires", expires))
}

fn file(cx: Cx<'_>, incoming: Incoming<'_>, path: &FilePath<'_>) -> Action {
    match sessions::find(cx, &path.key, |kind| kind == Kind::Exchange) {
        Some(session) => in_session(cx, incoming, path, &session),
        None => {
            let answer = delivered(cx, incoming, path);
            answer.unwrap_or_else(|| sessions::unknown(cx, incoming.info)).into()
        }
    }
}

/// Decides what a request asks of a session. A name after the key names the file that a sender brings. Other requests
/// may have a name as well, so that receivers' programs take it for their file.
fn in_session(
    cx: Cx<'_>,
    incoming: Incoming<'_>,
    path: &FilePath<'_>,
    session: &Session,
) -> Action {
    let Incoming { request, info, .. } = incoming;
    match request.method {
        Method::Get if request::is_prefetch(request) => Answer::prefetched(info).into(),
        Method::Get if preview::is_previewer(cx.env, request) => {
            incoming.without_body(|| preview::page(Behind::File).into())
        }
        Method::Get => incoming.without_body(|| receive(cx.env, incoming, session)),
        Method::Head => incoming.without_body(|| {
            let lane = session.at.lane(Direction::Forth);
            waiting::in_exchange(cx.env, lane, info).into()
        }),
        Method::Delete => incoming.without_body(|| delete(cx, incoming, session).into()),
        _ => match send_request(cx.env, incoming, path) {
            Ok(send_request) => {
                let place_request = PlaceRequest::Send(Box::new(send_request));
                claim(cx.env, incoming, session, place_request)
            }
            Err(answer) => answer.into(),
        },
    }
}

fn receive(env: &Env, incoming: Incoming<'_>, session: &Session) -> Action {
    let Incoming { request, info, .. } = incoming;
    // The session of a delivered file may still live: its worker may have died before it could end the session.
    let passed = env.shared().passed(session.at.lane(Direction::Forth));
    let file = passed.ok().and_then(Passed::file);
    if let Some(answer) = file.and_then(|it| past::to_receiver(it, request, info)) {
        return answer.into();
    }
    let receive_request = request::receive_request(info, Api::Exchange, part::want(request), None);
    claim(env, incoming, session, PlaceRequest::Receive(receive_request))
}

fn delete(cx: Cx<'_>, incoming: Incoming<'_>, session: &Session) -> Result<Answer, Answer> {
    let Incoming { request, info, .. } = incoming;
    if request::token(request, session).is_none() {
        return Err(Answer::token_needed(info));
    }
    sessions::delete(cx, session, info)?;
    Ok(Answer::text(Status::Ok, "deleted\n"))
}

fn claim(
    env: &Env,
    incoming: Incoming<'_>,
    session: &Session,
    place_request: PlaceRequest,
) -> Action {
    match wait(env, incoming) {
        Ok(wait) => Action::Claim { lane: session.at.lane(Direction::Forth), place_request, wait },
        Err(answer) => answer.into(),
    }
}

/// The time that a request waits for its peer.
fn wait(env: &Env, Incoming { request, info, .. }: Incoming<'_>) -> Result<Duration, Answer> {
    let usual = env.config.timeouts.wait_timeout;
    let most = env.config.exchange.wait_timeout_max.max(usual);
    Ok(request::timeout(request, info)?.map_or(usual, |wait| wait.min(most)))
}

fn send_request(
    env: &Env,
    incoming: Incoming<'_>,
    path: &FilePath<'_>,
) -> Result<SendRequest, Answer> {
    let Brought { form, offer, name } = Brought::read(env, incoming, path)?;
    let send_request = request::send_request(env, incoming, Api::Exchange, form)?;
    Ok(SendRequest { offer, name, ..send_request })
}

/// A sender's description of its file.
struct Brought {
    /// The form around the file.
    form: Option<Multipart>,
    offer: Offer,
    name: Option<FileName>,
}

impl Brought {
    fn read(env: &Env, incoming: Incoming<'_>, path: &FilePath<'_>) -> Result<Self, Answer> {
        let Incoming { request, info, .. } = incoming;
        let form = match (request.method, request.field("content-type")) {
            (Method::Post | Method::Put, Some(content_type)) => multipart::boundary(content_type),
            _ => Ok(None),
        };
        let boundary = form.map_err(|fault| Answer::fault(fault, info))?;
        let overhead_bytes_max = env.config.limits.form_overhead_bytes_max;
        let form = boundary.map(|boundary| Multipart::new(&boundary, overhead_bytes_max));
        let disposition = request::single(request, "content-disposition", info)?;
        let disposition = disposition.and_then(FileName::from_disposition);
        let name = disposition.or_else(|| path.name.and_then(FileName::from_path_segment));
        let described = Described { key: &path.key, is_form: form.is_some(), name: name.as_ref() };
        Ok(Self { offer: part::offer(env, request, described, info)?, form, name })
    }
}

/// The answer about a session that is over because its file was delivered. `None`: the session is unknown.
fn delivered(cx: Cx<'_>, incoming: Incoming<'_>, path: &FilePath<'_>) -> Option<Answer> {
    let Incoming { request, info, .. } = incoming;
    let delivered = past::find(cx, &path.key)?;
    match request.method {
        Method::Get => return delivered.to_receiver(request, info),
        Method::Post | Method::Put => {}
        _ => return None,
    }
    // If something is wrong with the sender's description, its file is not the file that was delivered.
    let brought = Brought::read(cx.env, incoming, path).ok()?;
    let receipt = request::receipt(cx.env, incoming, ApiName::Exchange).ok()?;
    delivered.to_sender(cx.env, brought.offer, receipt, info)
}
