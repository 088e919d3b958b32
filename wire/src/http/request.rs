//! A request whose head has been read: its method, version, path, fields, and where its body ends.
//!
//! `head` makes a [`Request`] of bytes, `framing` decides what its fields mean, and the routes read it.
//! Invariant: a request has one host, and its body one end.

use httparse::Header;

/// No configuration may allow more header fields than this: room for them is on the stack.
pub const HEADER_FIELDS_CEILING: usize = 128;

/// The methods the routes tell apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    /// Any other token.
    Other,
}

/// The two versions spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum Version {
    Http10,
    Http11,
}

/// Where the body of a request ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// No body: neither `Content-Length` nor `Transfer-Encoding`.
    None,
    /// This many bytes, possibly zero.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A complete head.
#[derive(Clone, Copy, Debug)]
pub struct Request<'b> {
    /// The method that the client asks for.
    pub method: Method,
    /// The version that the client speaks.
    pub version: Version,
    /// The path, still percent-encoded, printable ASCII that starts with `/`; `*` for `OPTIONS *`.
    pub path: &'b str,
    /// The text after the first `?`, if there is one.
    pub query: Option<&'b str>,
    /// Name or address with optional port; empty only for HTTP/1.0 without `Host`.
    pub host: &'b str,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// Whether the client waits for a `100` before it sends the body.
    pub expects_continue: bool,
    pub(super) fields: &'b [Header<'b>],
}

impl<'b> Request<'b> {
    /// The value of `name` in the query, not decoded: the first `name=value` between its `&`s.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<&'b str> {
        let mut pairs = self.query?.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The value of `name` in the query, empty where it stands alone; `None` where it does not stand there.
    #[must_use]
    pub fn query_flag(&self, name: &str) -> Option<&'b str> {
        let mut pairs =
            self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The value of the first field of this name, whose case does not matter, without white space around it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        self.fields(name).next()
    }

    /// All fields of this name, in the order sent.
    pub fn fields<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        let of_name = self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        of_name.map(|field| field.value.trim_ascii())
    }
}
