//! The route that answers a request.
//!
//! The connection calls this with every request head. A route takes nothing but a session slot, for a request that asks
//! for one. Everything else that a request asks for goes out as a value.

use super::action::Routed;
use super::incoming::Incoming;
use super::target::Target;
use super::{exchange, messages};
use crate::api::{Answer, MessageRole};
use crate::http::{Method, Status};
use crate::relay::Cx;

/// Decides what a request for `target` asks for.
pub(super) fn route(cx: Cx<'_>, incoming: Incoming<'_>, target: &Target<'_>) -> Routed {
    if incoming.request.method == Method::Options && incoming.info.cors.is_spoken() {
        let action = incoming.without_body(|| options(incoming, target).into());
        return Routed { action, role: role_unseen(target) };
    }
    if is_for_service_worker(incoming) {
        let text = "service workers are not served";
        let action = Answer::error(Status::Forbidden, text, incoming.info).into();
        return Routed { action, role: role(cx, incoming, target) };
    }
    match target {
        Target::Exchange(path) => {
            Routed { action: exchange::route(cx, incoming, path), role: None }
        }
        Target::Messages(path) => messages::route(cx, incoming, path),
    }
}

/// The client's role in the session of messages that `target` names.
pub(super) fn role(cx: Cx<'_>, incoming: Incoming<'_>, target: &Target<'_>) -> Option<MessageRole> {
    match target {
        Target::Exchange(_) => None,
        Target::Messages(path) => Some(messages::role(cx, incoming, path)),
    }
}

/// The role of a client whose session is not looked up: no client counts as a host without that.
fn role_unseen(target: &Target<'_>) -> Option<MessageRole> {
    match target {
        Target::Exchange(_) => None,
        Target::Messages(_) => Some(MessageRole::Guest),
    }
}

fn is_for_service_worker(incoming: Incoming<'_>) -> bool {
    let field = incoming.request.field("service-worker");
    field.is_some_and(|value| value.eq_ignore_ascii_case(b"script"))
}

/// The answer to `OPTIONS`, which is a browser's preflight or asks what is allowed. It depends on the path alone, so it
/// says nothing about a key in it.
fn options(incoming: Incoming<'_>, target: &Target<'_>) -> Answer {
    let request = incoming.request;
    let methods = format!("{}, OPTIONS", target.methods());
    let answer = Answer::empty(Status::NoContent).with("Allow", methods);
    if request.field("access-control-request-method").is_none() {
        return answer;
    }
    let private = request.field("access-control-request-private-network");
    let fields = incoming.info.cors.preflight(private == Some(b"true"));
    fields.fold(answer, |answer, (name, value)| answer.with(name, value))
}
