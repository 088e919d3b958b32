//! The two-step exchange: which request asks for what.
//!
//! Called with every request head. Nothing is taken here but a session slot, by the request that
//! asks for one: what a request asks for goes out as a value.

use super::admission;
use super::answer::{Answer, Asked};
use super::origin::Origin;
use crate::config::{Limits, Receipt};
use crate::http::{
    self, Dechunker, Fault, FileName, Framing, Method, Request, Status, Version, accepts,
};
use crate::multipart::{self, Multipart};
use crate::relay::{Body, Cargo, Relay, millis};
use crate::session::{self, IssueError, Issued, Session, SessionKey};
use shm::End;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

const ROOT_METHODS: &str = "GET, HEAD, POST";
const KEY_METHODS: &str = "GET, HEAD, POST, PUT, DELETE";

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Action {
    /// Nothing but an answer.
    Answer(Answer),
    /// The sender's place.
    Send(Session, Box<Cargo>),
    /// The receiver's place.
    Receive(Session),
}

impl From<Answer> for Action {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// How many bytes of what follows the head are a body that is empty, though it is chunked: they are
/// read with the head where a request takes no body. `None`: more must come to tell.
pub(super) fn empty_body_bytes(
    relay: &Relay,
    request: &Request<'_>,
    behind: &[u8],
) -> Option<usize> {
    let sends = matches!(request.method, Method::Post | Method::Put) && request.path != "/";
    if sends || request.framing != Framing::Chunked {
        return Some(0);
    }
    let mut body = behind.to_vec();
    match dechunker(&relay.config.limits).decode(&mut body) {
        Ok(decoded) if decoded.payload > 0 => Some(0),
        Ok(decoded) if decoded.done => Some(decoded.consumed),
        Ok(_) => None,
        Err(_) => Some(0),
    }
}

fn dechunker(limits: &Limits) -> Dechunker {
    Dechunker::new(limits.chunk_line_bytes_max, limits.trailer_bytes_max)
}

/// What the answer to `request`, which is `client`'s, has to know of it. `read_bytes` of its body were
/// read with the head.
pub(super) fn asked(request: &Request<'_>, client: IpAddr, read_bytes: usize) -> Asked {
    Asked {
        client,
        keep_alive: request.keep_alive,
        version: request.version,
        problem: accepts(request.field("accept"), "application/problem+json"),
        head_only: request.method == Method::Head,
        unread: !matches!(request.framing, Framing::None | Framing::Length(0)) && read_bytes == 0,
    }
}

/// A path: the root, or a key and what stands behind it.
enum Path<'p> {
    Root,
    /// A key, and the name behind it: `None` for `/key`, empty for `/key/`.
    Key(SessionKey, Option<&'p str>),
    Unknown,
}

impl<'p> Path<'p> {
    fn parse(path: &'p str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.is_empty() {
            return Self::Root;
        }
        let (key, name) = match path.split_once('/') {
            Some((key, name)) => (key, Some(name)),
            None => (path, None),
        };
        match SessionKey::parse(key) {
            Some(key) if !name.is_some_and(|name| name.contains('/')) => Self::Key(key, name),
            _ => Self::Unknown,
        }
    }
}

/// Decides what `request` asks for. `origin` is what its client calls this server.
pub(super) fn route(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    origin: &Origin<'_>,
    now_ms: u64,
) -> Action {
    if request.field("service-worker").is_some_and(|it| it.eq_ignore_ascii_case(b"script")) {
        let text = "service workers are not served";
        return Answer::error(Status::Forbidden, text, asked).into();
    }
    match (Path::parse(request.path), request.method) {
        (Path::Root, Method::Get | Method::Head) => without_body(asked, || usage(origin).into()),
        (Path::Root, Method::Post) => {
            without_body(asked, || issue(relay, request, asked, origin, now_ms).into())
        }
        (Path::Root, _) => not_allowed(ROOT_METHODS, asked).into(),
        (_, Method::Options | Method::Other) => not_allowed(KEY_METHODS, asked).into(),
        (Path::Key(key, None), method) => {
            let Some(session) = session::find(relay.shared(), &key, now_ms) else {
                return unknown(relay, asked, now_ms).into();
            };
            with_key(relay, request, asked, session, method)
        }
        (Path::Key(key, Some(name)), Method::Put) => {
            match session::find(relay.shared(), &key, now_ms) {
                Some(session) => {
                    send(relay, request, asked, session, FileName::from_path_segment(name))
                }
                None => unknown(relay, asked, now_ms).into(),
            }
        }
        (Path::Key(..) | Path::Unknown, _) => unknown(relay, asked, now_ms).into(),
    }
}

fn with_key(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    session: Session,
    method: Method,
) -> Action {
    match method {
        Method::Get if is_prefetch(request) => {
            let text = "prefetching would consume the transfer";
            Answer::error(Status::Unavailable, text, asked).into()
        }
        Method::Get => without_body(asked, || Action::Receive(session)),
        Method::Head => without_body(asked, || Answer::text(Status::Ok, "").into()),
        Method::Delete => without_body(asked, || delete(relay, request, asked, session).into()),
        _ => send(relay, request, asked, session, None),
    }
}

fn without_body(asked: &Asked, action: impl FnOnce() -> Action) -> Action {
    if asked.unread {
        let text = "this request takes no body";
        return Answer::error(Status::BadRequest, text, asked).into();
    }
    action()
}

/// A key that is no living session's, or no key at all: it makes no difference which.
fn unknown(relay: &Relay, asked: &Asked, now_ms: u64) -> Answer {
    if admission::may_guess(relay, asked.client, now_ms) {
        return no_session(asked);
    }
    let text = "too many unknown session keys from this address";
    Answer::error(Status::TooManyRequests, text, asked)
}

fn no_session(asked: &Asked) -> Answer {
    Answer::error(Status::NotFound, "unknown session key", asked)
}

fn not_allowed(methods: &str, asked: &Asked) -> Answer {
    let text = format!("allowed here: {methods}");
    Answer::error(Status::MethodNotAllowed, &text, asked).with("Allow", methods)
}

fn is_prefetch(request: &Request<'_>) -> bool {
    let names = |value: &[u8]| value.to_ascii_lowercase().starts_with(b"prefetch");
    request.field("sec-purpose").is_some_and(names) || request.field("purpose").is_some_and(names)
}

fn usage(origin: &Origin<'_>) -> Answer {
    let here = origin.url("/");
    let text = format!(
        "idontstore: two parties that cannot reach each other exchange a file through here.\n\
         Nothing is stored: the bytes pass while both are connected.\n\
         \n\
         1. One of them asks for a session and gives the URL to the other:\n\
         \n    url=$(curl -fsX POST {here}); echo $url\n\n\
         2. One receives, the other sends, in any order:\n\
         \n    curl -fOJ $url\n    curl --fail-with-body -F file=@FILE $url\n\n\
         or, for bytes without a name:\n\
         \n    curl -f $url > FILE\n    curl --fail-with-body -T FILE $url\n"
    );
    Answer::text(Status::Ok, text)
}

/// The safe-conduct.
fn issue(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    origin: &Origin<'_>,
    now_ms: u64,
) -> Answer {
    let lifetime = relay.config.timeouts.session_lifetime;
    let expires_ms = now_ms.saturating_add(millis(lifetime));
    let quota = admission::sessions_of(relay, asked.client);
    let Issued { key, token } =
        match session::issue(relay.segment, relay.owner, quota, now_ms, expires_ms) {
            Ok(issued) => issued,
            Err(IssueError::TooMany) => {
                let text = "too many sessions from this address";
                return Answer::error(Status::TooManyRequests, text, asked);
            }
            Err(IssueError::Full) => {
                return Answer::error(Status::Unavailable, "every session is in use", asked);
            }
            Err(IssueError::NoRandom) => {
                return Answer::error(Status::InternalError, "no random numbers", asked);
            }
        };
    tracing::debug!(client = %asked.client, "a session was issued");
    let key = key.to_string();
    let path = format!("/{key}");
    let url = origin.url(&path);
    let expires = http::http_date(SystemTime::now() + lifetime.min(LIFETIME_SHOWN_MAX)).to_string();
    let answer = if accepts(request.field("accept"), "application/json") {
        let document = serde_json::json!({
            "key": key, "url": url, "token": token.to_string(), "expires": expires,
        });
        Answer::json(Status::Created, format!("{document}\n"))
    } else {
        Answer::text(Status::Created, format!("{url}\n"))
    };
    let secure = if origin.is_secure() { "; Secure" } else { "" };
    answer
        .with("Location", url)
        .with(
            "Set-Cookie",
            format!("token={token}; HttpOnly; SameSite=Strict; Path={path}{secure}"),
        )
        .with("X-Session-Expires", expires)
}

/// A thousand years, so that a date can be made of any lifetime.
const LIFETIME_SHOWN_MAX: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

fn delete(relay: &Relay, request: &Request<'_>, asked: &Asked, session: Session) -> Answer {
    let token = http::cookie(request.fields("cookie"), "token")
        .or_else(|| http::bearer(request.field("authorization")));
    if !token.is_some_and(|token| session.is_owned_by(token)) {
        return Answer::error(Status::Forbidden, "the session's token is needed", asked);
    }
    let slot = session.at.slot;
    if !relay.shared().end(session.at, End::Deleted, |owner| relay.ring(owner, slot)) {
        // It was good a moment ago: no guess.
        return no_session(asked);
    }
    Answer::text(Status::Ok, "deleted\n")
}

fn send(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    session: Session,
    name: Option<FileName>,
) -> Action {
    match cargo(relay, request, name) {
        Ok(cargo) => Action::Send(session, Box::new(cargo)),
        Err(Unsendable::Fault(fault)) => {
            Answer::error(fault.status(), &fault.to_string(), asked).into()
        }
        Err(Unsendable::Receipt) => {
            let text = "X-Receipt: acked or sent";
            Answer::error(Status::BadRequest, text, asked).into()
        }
    }
}

/// Why a request cannot send.
enum Unsendable {
    Fault(Fault),
    Receipt,
}

impl From<Fault> for Unsendable {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn cargo(
    relay: &Relay,
    request: &Request<'_>,
    name: Option<FileName>,
) -> Result<Cargo, Unsendable> {
    let limits = &relay.config.limits;
    let content_type = request.field("content-type");
    let form = match (request.method, content_type) {
        (Method::Post, Some(content_type)) => multipart::boundary(content_type)?,
        _ => None,
    };
    let form = form.map(|boundary| Multipart::new(&boundary, limits.form_overhead_bytes_max));
    let receipt = match request.field("x-receipt") {
        None => relay.config.exchange.receipt,
        Some(b"acked") => Receipt::Acked,
        Some(b"sent") => Receipt::Sent,
        Some(_) => return Err(Unsendable::Receipt),
    };
    if let Framing::Length(bytes) = request.framing
        && bytes > limits.body_bytes_max
    {
        return Err(Fault::BodyTooLarge { bytes_max: limits.body_bytes_max }.into());
    }
    let disposition = request.field("content-disposition").and_then(FileName::from_disposition);
    Ok(Cargo {
        body: Body::new(request.framing, form, dechunker(limits), limits.body_bytes_max),
        content_type: content_type.map(<[u8]>::to_vec),
        name: disposition.or(name),
        receipt,
        expects_continue: request.expects_continue && request.version == Version::Http11,
    })
}
