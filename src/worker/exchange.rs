//! The two-step exchange: its paths, and what each asks for.

use super::answer::{Answer, Asked};
use super::issuing;
use super::origin::Origin;
use super::preview::{self, Behind};
use super::request::{self, Label};
use super::route::{self, Action, Errand, no_such_path, not_allowed, unknown, without_body};
use super::safe_conduct::SafeConduct;
use super::waiting::{self, Waiting};
use crate::http::{FileName, Method, Request, Status};
use crate::multipart::{self, Multipart};
use crate::relay::{Manner, Relay};
use crate::session::{KEY_CHARS, Kind, Session, SessionKey};
use shm::Direction;
use std::time::{Duration, SystemTime};

const ROOT_METHODS: &str = "GET, HEAD, POST";
const ROBOTS_METHODS: &str = "GET, HEAD";
const KEY_METHODS: &str = "GET, HEAD, POST, PUT, DELETE";

/// What crawlers are told: there is nothing to find.
const ROBOTS: &str = "User-agent: *\nDisallow: /\n";

/// A path.
enum Path<'p> {
    Root,
    /// What crawlers ask for first.
    Robots,
    /// A key, and the name behind it: `None` for `/key`, empty for `/key/`.
    Key(SessionKey, Option<&'p str>),
    /// A key, and more behind it than a name.
    Deeper,
    /// What no key looks like.
    Other,
}

impl<'p> Path<'p> {
    fn parse(path: &'p str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (key, name) = match path.split_once('/') {
            Some((key, name)) => (key, Some(name)),
            None => (path, None),
        };
        match (path, SessionKey::parse(key)) {
            ("", _) => Self::Root,
            ("robots.txt", _) => Self::Robots,
            (_, Some(key)) if !name.is_some_and(|name| name.contains('/')) => Self::Key(key, name),
            (_, Some(_)) => Self::Deeper,
            (_, None) => Self::Other,
        }
    }
}

/// What may be done at `path`.
pub(super) fn methods(path: &str) -> &'static str {
    match Path::parse(path) {
        Path::Root => ROOT_METHODS,
        Path::Robots => ROBOTS_METHODS,
        Path::Key(..) | Path::Deeper | Path::Other => KEY_METHODS,
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
    match (Path::parse(request.path), request.method) {
        (Path::Root, Method::Get | Method::Head) => {
            without_body(asked, || usage(relay, origin).into())
        }
        (Path::Root, Method::Post) if asked.unread => {
            Answer::bad_request(&session_first(relay, origin), asked).into()
        }
        (Path::Root, Method::Post) => issue(relay, request, asked, origin, now_ms).into(),
        (Path::Root, Method::Put) => {
            let tell = |_: &str| session_first(relay, origin);
            route::not_allowed_but(tell, ROOT_METHODS, asked).into()
        }
        (Path::Root, _) => not_allowed(ROOT_METHODS, asked).into(),
        (Path::Robots, Method::Get | Method::Head) => {
            without_body(asked, || Answer::text(Status::Ok, ROBOTS).into())
        }
        (_, Method::Options | Method::Other) => not_allowed(KEY_METHODS, asked).into(),
        (Path::Key(key, name), _) => {
            let Some(session) = find(relay, &key, now_ms) else {
                return unknown(relay, asked, now_ms).into();
            };
            with_key(relay, request, asked, &session, name)
        }
        (Path::Robots | Path::Other, Method::Post | Method::Put) => {
            no_such_path(&session_first(relay, origin), asked).into()
        }
        (Path::Robots | Path::Other, _) => {
            let text = format!("no session's URL: its key has {KEY_CHARS} characters");
            no_such_path(&text, asked).into()
        }
        (Path::Deeper, _) => {
            no_such_path("no session's URL: only a file's name may follow the key", asked).into()
        }
    }
}

/// What to do for somebody who sends a file to no session.
fn session_first(relay: &Relay, origin: &Origin<'_>) -> String {
    let (token, here) = (relay.config.auth.curl_option(), origin.url("/"));
    format!(
        "first ask for a session, without a body: url=$(curl -fsSX POST{token} {here}); \
         then send to it: curl --fail-with-body -T FILE $url/"
    )
}

fn find(relay: &Relay, key: &SessionKey, now_ms: u64) -> Option<Session> {
    route::find(relay, key, |kind| kind == Kind::Exchange, now_ms)
}

/// What is asked of a session. The name behind its key is that of the file that a sender brings; it makes no difference to
/// others, but that their own programs may take it.
fn with_key(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    session: &Session,
    name: Option<&str>,
) -> Action {
    match request.method {
        Method::Get if request::is_prefetch(request) => route::prefetched(asked).into(),
        Method::Get if preview::is_previewer(relay, request) => {
            without_body(asked, || preview::page(Behind::File).into())
        }
        Method::Get => without_body(asked, || match refuse_rest(relay, request, asked, session) {
            Ok(()) => {
                let errand = Errand::Receive(request::reception(asked, Manner::File, 0));
                enter(relay, request, asked, session, errand)
            }
            Err(answer) => answer.into(),
        }),
        Method::Head => without_body(asked, || {
            let waiting = Waiting::look(relay, session.at.lane(Direction::Forth), asked);
            waiting.map_or_else(|error| error, waiting::in_exchange).into()
        }),
        Method::Delete => without_body(asked, || {
            if request::token(request, session).is_none() {
                return route::token_needed(asked).into();
            }
            let deleted = route::delete(relay, asked, session);
            deleted.map_or_else(Action::from, |()| Answer::text(Status::Ok, "deleted\n").into())
        }),
        _ => send(relay, request, asked, session, name.and_then(FileName::from_path_segment)),
    }
}

/// Refuses a receiver that asks for the rest of a file whose beginning was relayed before. It would get
/// the file from byte 0, and some clients put that behind what they have.
fn refuse_rest(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    session: &Session,
) -> Result<(), Answer> {
    if !request::asks_for_rest(request) {
        return Ok(());
    }
    let passed = relay.shared().has_passed(session.at.lane(Direction::Forth));
    match passed.map_err(|refusal| route::damaged(refusal, session.at.slot, asked))? {
        true => {
            let text =
                "the file begins at byte 0 again, and Range asks for a part: ask without Range";
            Err(Answer::error(Status::Conflict, text, asked))
        }
        false => Ok(()),
    }
}

fn enter(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    session: &Session,
    errand: Errand,
) -> Action {
    match wait(relay, request, asked) {
        Ok(wait) => Action::Enter { lane: session.at.lane(Direction::Forth), errand, wait },
        Err(answer) => answer.into(),
    }
}

/// How long `request` would wait for its peer.
fn wait(relay: &Relay, request: &Request<'_>, asked: &Asked) -> Result<Duration, Answer> {
    let usual = relay.config.timeouts.wait_timeout;
    let most = relay.config.exchange.wait_timeout_max.max(usual);
    Ok(request::timeout(request, asked)?.map_or(usual, |wait| wait.min(most)))
}

/// What somebody who knows only curl needs, in lines that can be copied.
fn usage(relay: &Relay, origin: &Origin<'_>) -> Answer {
    let (token, here) = (relay.config.auth.curl_option(), origin.url("/"));
    let wait = relay.config.timeouts.wait_timeout.as_secs();
    let patience = wait + 10;
    let text = format!(
        "idontstore: two people who cannot reach each other pass a file through here.\n\
         Nothing is stored: the bytes pass while both are connected.\n\
         \n\
         1. One of the two asks for a session. The answer is its URL:\n\
         \n    curl -fsSX POST{token} {here}\n\n\
         2. One sends there and the other receives there. Either may come first, and waits for the\n   \
         other: {wait} seconds, or as many as -H 'X-Timeout: 60' says.\n\
         \n    curl --fail-with-body -T FILE URL/\n    curl -fOJ URL\n\n   \
         The / at the end passes on the file's name. A browser can receive as well.\n\
         \n\
         This line prints both commands with the URL in them:\n\
         \n    url=$(curl -fsSX POST{token} {here}) && \
         echo \"curl --fail-with-body -T FILE $url/\" && echo \"curl -fOJ $url\"\n\n\
         Other ways to send and to receive:\n\
         \n    curl --fail-with-body -F file=@FILE URL\
         \n    COMMAND | curl --fail-with-body -T - URL\
         \n    curl -f URL | COMMAND\n\n\
         While the sender waits, curl stands still at some per cent, or at 100. Nothing has been passed\n\
         on yet. With --expect100-timeout {patience} it shows 0 until the receiver comes (files above 1 MiB).\n\n\
         A transfer that was cut begins again with the same URL; --retry 20 --retry-all-errors does that\n\
         by itself. If curl -fOJ says (23), a part of the file is there: use -o NAME in place of -OJ.\n\
         Never give --retry or --max-time to a stream (-T -): its receiver would take a part, or nothing,\n\
         for the whole.\n"
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
    if let Err(answer) = issuing::admit(relay, request, asked, now_ms) {
        return answer;
    }
    let lifetime = relay.config.timeouts.session_lifetime;
    let issued = route::issue(relay, asked, Kind::Exchange, lifetime, now_ms);
    let issued = match issued {
        Ok(issued) => issued,
        Err(answer) => return answer,
    };
    let (path, token) = (format!("/{}", issued.key), &issued.token);
    let url = origin.url(&path);
    let conduct =
        SafeConduct { issued: &issued, url: &url, issued_at: SystemTime::now(), lifetime };
    let answer = match conduct.document(request, None) {
        Some(document) => Answer::json(Status::Created, document),
        None => Answer::text(Status::Created, format!("{url}\n")),
    };
    let (expires, secure) = (conduct.expires(), if origin.is_https() { "; Secure" } else { "" });
    answer
        .with("Location", url)
        .with(
            "Set-Cookie",
            format!("token={token}; HttpOnly; SameSite=Strict; Path={path}{secure}"),
        )
        .with("X-Session-Expires", expires)
}

fn send(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    session: &Session,
    name: Option<FileName>,
) -> Action {
    let form = match (request.method, request.field("content-type")) {
        (Method::Post | Method::Put, Some(content_type)) => multipart::boundary(content_type),
        _ => Ok(None),
    };
    let overhead_bytes_max = relay.config.limits.form_overhead_bytes_max;
    let form = match form {
        Ok(boundary) => boundary.map(|boundary| Multipart::new(&boundary, overhead_bytes_max)),
        Err(fault) => return Answer::fault(fault, asked).into(),
    };
    let disposition = match request::single(request, "content-disposition", asked) {
        Ok(disposition) => disposition.and_then(FileName::from_disposition),
        Err(answer) => return answer.into(),
    };
    let label = Label {
        form,
        name: disposition.or(name),
        receipt: relay.config.exchange.receipt,
        manner: Manner::File,
        admitted_as: 0,
        for_guest: false,
    };
    match request::cargo(relay, request, asked, label) {
        Ok(cargo) => enter(relay, request, asked, session, Errand::Send(Box::new(cargo))),
        Err(answer) => answer.into(),
    }
}
