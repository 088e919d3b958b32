//! A client that plays the transcript: its requests, its answers, and the operations that it must have.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::harness::{Head, Relay};

/// The byte that an endless body repeats.
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
    /// A chunked body that goes on until one of the parties leaves.
    Endless,
}

/// An answer that is whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) trailer: Vec<(String, String)>,
}

/// A client that plays a role, with at most one request at a time.
pub(super) trait Client: Sized {
    /// A client that keeps cookies.
    fn host(relay: &Relay) -> Self;
    /// A client that keeps no cookies.
    fn guest(relay: &Relay) -> Self;
    /// Another client, with the cookies of the first.
    fn host_like(relay: &Relay, first: &Self) -> Self;
    fn ask(&mut self, request: &Request<'_>);
    fn answer(&mut self) -> Answer;
    /// Waits for some bytes of a message; returns how many have come and are acknowledged when the client leaves.
    fn read_some(&mut self) -> u64;
    /// Leaves in the midst of its request.
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

/// A field in the form in which it is compared. A cookie is parsed: its attributes have no order and lose their quotes.
/// The word `DATE` replaces its expiry, which differs each time.
pub(super) fn parsed(field: &str) -> String {
    let Some(cookie) = field.strip_prefix("Set-Cookie: ") else { return field.to_owned() };
    let parts = cookie.split(';').map(|part| {
        let (name, value) = part.trim().split_once('=').unwrap_or((part.trim(), ""));
        let name = if name == "token" { name.to_owned() } else { name.to_lowercase() };
        let value = if name == "expires" { "DATE" } else { value.trim_matches('"') };
        (name, value.to_owned())
    });
    // The relay adds two attributes that the transcript lacks: `Max-Age` beside `Expires`, and `Secure` over HTTPS.
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
    /// The fields as lines; a word replaces each value that differs from run to run, or from cama.
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
