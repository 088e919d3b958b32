//! Previews of links: the answer to a chat program that fetches a session's link, in place of the transfer.
//!
//! The routes of both APIs call this for a session that lives. Invariant: a previewer takes no place and no byte, and
//! its answer does not depend on the state of the session.

use crate::api::{Answer, RELAYED_FIELDS};
use crate::http::Request;
use crate::relay::Env;

/// Bytes of a `User-Agent` that are read: more than any known one has, so that a long one costs little.
const AGENT_BYTES_MAX: usize = 512;

/// The thing that waits behind a link.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behind {
    File,
    Messages,
}

/// Whether the client says that it makes previews of links.
pub(super) fn is_previewer(env: &Env, request: &Request<'_>) -> bool {
    let names = &env.config.previewers;
    request.field("user-agent").is_some_and(|agent| {
        let agent = agent.get(..AGENT_BYTES_MAX).unwrap_or(agent);
        names.iter().any(|name| has(agent, name.as_bytes()))
    })
}

/// Whether `name` is a part of `text`, in any case.
fn has(text: &[u8], name: &[u8]) -> bool {
    text.windows(name.len().max(1)).any(|part| part.eq_ignore_ascii_case(name))
}

/// The page for a previewer.
pub(super) fn page(behind: Behind) -> Answer {
    let (title, advice) = match behind {
        Behind::File => (
            "A file transfer waits behind this link",
            "Open the link with a browser, or with curl -fOJ. It can be received once.",
        ),
        Behind::Messages => (
            "Messages are exchanged behind this link",
            "It is for a program that speaks with another one.",
        ),
    };
    let page = Answer::page(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"robots\" content=\"noindex, nofollow\">\n<title>{title}</title>\n\
         <meta property=\"og:title\" content=\"{title}\">\n\
         <meta property=\"og:description\" content=\"{advice}\">\n\
         <h1>{title}</h1>\n<p>{advice}\n\
         <p>This page is for programs that make previews of links: it took nothing of what waits.\n"
    ));
    // Every answer has the field for caches.
    let fields = RELAYED_FIELDS.into_iter().filter(|(name, _)| *name != "Cache-Control");
    fields.fold(page, |page, (name, value)| page.with(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_anywhere_in_any_case() {
        for agent in ["Slackbot 1.0", "x slackBOT", "slackbot"] {
            assert!(has(agent.as_bytes(), b"SlackBot"), "{agent}");
        }
        for agent in ["", "Slackbo", "Slack bot", "curl/8.0"] {
            assert!(!has(agent.as_bytes(), b"Slackbot"), "{agent}");
        }
    }
}
