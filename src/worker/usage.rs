//! Texts for people who ask the relay with curl how to use it.
//!
//! The exchange's routes call this for `GET /`, and where a client sends a file to no session.

use super::origin::Origin;
use crate::api::Answer;
use crate::http::Status;
use crate::relay::Env;

/// The usage text: all that a person with curl needs, in lines that can be copied.
pub(super) fn usage(env: &Env, origin: &Origin<'_>) -> Answer {
    let (token, here) = (env.config.auth.curl_option(), origin.url("/"));
    let wait = env.config.timeouts.wait_timeout.as_secs();
    let patience = wait + 10;
    let text = format!(
        "idontstore: two people who cannot reach each other pass a file through here.\n\
         Nothing is stored: the bytes pass while both are connected.\n\
         \n\
         1. One person asks for a session. The answer is its URL:\n\
         \n    curl -fsSX POST{token} {here}\n\n\
         2. One person sends to that URL, the other receives from it. Whichever comes first waits for the\n   \
         other: {wait} seconds, or as long as -H 'X-Timeout: 60' says.\n\
         \n    curl --fail-with-body -T FILE URL/\n    curl -fOJ URL\n\n   \
         The / at the end passes the file name on. A browser can receive as well.\n\
         \n\
         This line asks for a session and prints both commands with its URL:\n\
         \n    url=$(curl -fsSX POST{token} {here}) && \
         echo \"curl --fail-with-body -T FILE $url/\" && echo \"curl -fOJ $url\"\n\n\
         Other ways to send and to receive:\n\
         \n    curl --fail-with-body -F file=@FILE URL\
         \n    COMMAND | curl --fail-with-body -T - URL\
         \n    curl -f URL | COMMAND\n\n\
         While the sender waits, curl stands still at some percentage, even at 100. Nothing has been passed\n\
         on yet. With --expect100-timeout {patience} it shows 0 until the receiver comes (files above 1 MiB).\n\n\
         A cut transfer continues with the same URL, if the sender sends a file (-T FILE):\n\
         \n    curl --fail-with-body --retry 100 --retry-all-errors --retry-delay 2 -T FILE URL/\
         \n    wget --tries=100 --retry-on-http-error=409,503 -O NAME URL\
         \n    curl -f -C - -o NAME URL              (repeat it)\n\n\
         If curl -fOJ fails with (23), NAME exists. If it is a part of this file, use -C - -o NAME instead of\n\
         -OJ. Otherwise remove it.\n\
         Never use --retry or --max-time with a stream (-T -): its receiver would take a part, or nothing,\n\
         for the whole.\n"
    );
    Answer::text(Status::Ok, text)
}

/// The advice to a client that sends a file to no session.
pub(super) fn session_first(env: &Env, origin: &Origin<'_>) -> String {
    let (token, here) = (env.config.auth.curl_option(), origin.url("/"));
    format!(
        "first ask for a session, without a body: url=$(curl -fsSX POST{token} {here}); \
         then send to it: curl --fail-with-body -T FILE $url/"
    )
}
