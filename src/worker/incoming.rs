//! A request on its way to its route, with what the worker knows about it.

use super::action::Action;
use super::origin::Origin;
use crate::api::{Answer, RequestInfo};
use crate::http::Request;

/// A request that is being routed.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'r> {
    pub(super) request: &'r Request<'r>,
    pub(super) info: &'r RequestInfo,
    /// This server as the request's client calls it.
    pub(super) origin: &'r Origin<'r>,
}

impl Incoming<'_> {
    /// Does `action`, unless the request brings a body: no route that calls this takes one.
    pub(super) fn without_body(self, action: impl FnOnce() -> Action) -> Action {
        if self.info.unread { Answer::takes_no_body(self.info).into() } else { action() }
    }
}
