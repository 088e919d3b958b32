//! Answers about a session that is over because its file was delivered.
//!
//! A line may break just before its sender gets the delivery report. The sender comes again then, and its session is
//! gone; but until another session uses the slot, the slot knows which file it was. Only a sender that is known not to
//! have got the report gets it again: for any other client such a session is unknown.

use super::part;
use crate::api::{Answer, RequestInfo};
use crate::config::Receipt;
use crate::http::{Request, Status};
use crate::outcome::Report;
use crate::relay::{Cx, Env, Offer, has_all, was_delivered};
use crate::session::{self, SessionKey};
use shm::{PassedFile, Past, Told, Want};

/// A file that was delivered in a session that is over.
#[derive(Clone, Copy)]
pub(super) struct Delivered {
    past: Past,
    file: PassedFile,
}

/// The file that was delivered in the session of `key`, if its slot still knows.
pub(super) fn find(cx: Cx<'_>, key: &SessionKey) -> Option<Delivered> {
    let past = session::find_past(cx.env.shared(), key, cx.now_ms)?;
    Some(Delivered { past, file: past.passed.file()? })
}

/// The answer to a receiver that has all of `file` already, and asks for the bytes after it.
pub(super) fn to_receiver(
    file: PassedFile,
    request: &Request<'_>,
    info: &RequestInfo,
) -> Option<Answer> {
    let Want::Rest { from, last: None, of } = part::want(request) else { return None };
    let is_of_it = of.is_none_or(|of| of == file.tag);
    if !is_of_it || !has_all(file) || from == 0 || from != file.total {
        return None;
    }
    let text = format!("all {from} bytes were delivered");
    let answer = Answer::error(Status::RangeNotSatisfiable, &text, info);
    Some(answer.with("Content-Range", format!("bytes */{from}")))
}

impl Delivered {
    /// The answer to a receiver, as in [`to_receiver`].
    pub(super) fn to_receiver(self, request: &Request<'_>, info: &RequestInfo) -> Option<Answer> {
        to_receiver(self.file, request, info)
    }

    /// The answer to a sender that brings the same file again. `None`: it brings another file, or is another sender, or
    /// has the report.
    pub(super) fn to_sender(
        self,
        env: &Env,
        offer: Offer,
        receipt: Receipt,
        info: &RequestInfo,
    ) -> Option<Answer> {
        let sender = env.addresses.network(info.client);
        if self.past.told == Told::Told || !was_delivered(offer, self.file, receipt, sender) {
            return None;
        }
        // Only one connection gets the report at a time.
        if self.past.told == Told::Telling || !env.shared().tell_again(&self.past, env.owner) {
            return Some(Answer::error(Status::Conflict, "the place is taken", info));
        }
        let total = self.file.total;
        let report = Report::of_earlier(total, receipt);
        let answer = Answer::text(Status::Ok, format!("delivered {total} bytes\n"));
        Some(answer.with_count(&report).telling(self.past.session))
    }
}
