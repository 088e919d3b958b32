//! What plays the transcript: a client's requests, its answers, and what it must be able to do.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::harness::{Head, Relay};

/// What an endless body consists of.
pub(super) const ENDLESS: u8 = b'e';

/// A request of the transcript.
pub(super) struct Request<'r> {
    pub(super) method: &'r str,
    pub(super) target: &'r str,
    pub(super) fields: Vec<(&'r str, &'r str)>,
    pub(super) body: Body<'r>,
}

/// A request's body.
pub(super) enum Body<'r> {
    None,
    Whole(&'r [u8]),
    Chunks(Vec<&'r [u8]>),
    /// In chunks, until somebody goes.
    Endless,
}

/// An answer that is whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) trailer: Vec<(String, String)>,
}

/// One who plays a role, with at most one request at a time.
pub(super) trait Client: Sized {
    /// One that keeps cookies.
    fn host(relay: &Relay) -> Self;
    /// One that keeps none.
    fn guest(relay: &Relay) -> Self;
    /// Another one, who has the cookies of the first.
    fn host_like(relay: &Relay, first: &Self) -> Self;
    fn ask(&mut self, request: &Request<'_>);
    fn answer(&mut self) -> Answer;
    /// Waits for some bytes of a message; how many have come and are acknowledged when it leaves.
    fn read_some(&mut self) -> u64;
    /// Goes in the midst of what was asked for.
    fn leave(self);
    fn has_cookie_for(&self, location: &str) -> bool;
}

impl<'r> Request<'r> {
    pub(super) fn new(method: &'r str, target: &'r str, fields: &[(&'r str, &'r str)]) -> Self {
        Self { method, target, fields: fields.to_vec(), body: Body::None }
    }

    pub(super) fn with(self, body: Body<'r>) -> Self {
        Self { body, ..self }
    }
}

/// A field as it has to be compared: of a cookie what a parser makes of it, which knows no order and takes quotes off, and
/// without its times, of which only that they are there is the same each time.
pub(super) fn parsed(field: &str) -> String {
    let Some(cookie) = field.strip_prefix("Set-Cookie: ") else { return field.to_owned() };
    let parts = cookie.split(';').map(|part| {
        let (name, value) = part.trim().split_once('=').unwrap_or((part.trim(), ""));
        let name = if name == "token" { name.to_owned() } else { name.to_lowercase() };
        let value = if name == "expires" { "DATE" } else { value.trim_matches('"') };
        (name, value.to_owned())
    });
    // Beside the date, and over HTTPS, there is more than the transcript has.
    let is_ours = |name: &str| ["max-age", "secure"].contains(&name);
    let parts: BTreeMap<_, _> = parts.filter(|(name, _)| !is_ours(name)).collect();
    format!("Set-Cookie: {parts:?}")
}

/// An absolute URL with a word for its scheme and host.
fn without_origin(url: &str) -> String {
    let rest = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    match rest.and_then(|rest| rest.split_once('/')) {
        Some((host, path)) if host.parse::<SocketAddr>().is_ok() => format!("ORIGIN/{path}"),
        _ => panic!("no URL of an address: {url}"),
    }
}

impl Answer {
    /// The fields as lines, with what differs from run to run, and from cama, replaced by a word.
    pub(super) fn masked_fields(&self) -> Vec<String> {
        let token = self.head.token_cookie().map(|cookie| cookie.token).unwrap_or_default();
        let location = self.head.field("Location").map(str::to_owned);
        let path = self.head.token_cookie().map(|cookie| cookie.path).or(location);
        let key = path.and_then(|path| Some(path.rsplit_once('/')?.1.to_owned()));
        let masked = |(name, value): &(String, String)| {
            let mut value = match (name.as_str(), self.head.status) {
                ("Date", _) => "DATE".to_owned(),
                ("Server", _) => "SERVER".to_owned(),
                ("Location", _) => without_origin(value),
                ("Content-Length" | "X-Bytes-Delivered", 400..) if value != "0" => {
                    "COUNT".to_owned()
                }
                _ => value.clone(),
            };
            for (secret, word) in [(&*token, "TOKEN"), (key.as_deref().unwrap_or(""), "KEY")] {
                if !secret.is_empty() {
                    value = value.replace(secret, word);
                }
            }
            parsed(&format!("{name}: {value}"))
        };
        self.head.fields.iter().map(masked).collect()
    }
}
