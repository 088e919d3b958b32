//! The target of a request's path: a place of the exchange or of the messages API.
//!
//! The connection parses the path of each request once, with its head, and everything that depends on the path asks the
//! [`Target`]. Pure: nothing is looked up, so a target says nothing about whether its session exists.

use crate::api::ApiName;
use crate::http::Method;
use crate::session::{Nameplate, SessionKey};

pub(super) const ROOT_METHODS: &str = "GET, HEAD, POST";
pub(super) const ROBOTS_METHODS: &str = "GET, HEAD";
pub(super) const FILE_METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
pub(super) const MOUNT_METHODS: &str = "PUT";
pub(super) const SESSION_METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
/// A session with a nameplate is never a secure one, so nobody names its guest by `PUT`.
pub(super) const NAMEPLATE_METHODS: &str = "GET, HEAD, POST, DELETE";

/// The target of a path.
#[derive(Debug)]
pub(super) enum Target<'p> {
    /// Something of the exchange, to which every path outside of the mount belongs.
    Exchange(ExchangePath<'p>),
    /// Something below the mount of the messages API.
    Messages(MessagesPath),
}

/// A path of the exchange.
#[derive(Debug)]
pub(super) enum ExchangePath<'p> {
    /// `/`, where sessions are issued.
    Root,
    /// `/robots.txt`, for which crawlers ask first.
    Robots,
    /// `/KEY`, `/KEY/` or `/KEY/NAME`.
    File(FilePath<'p>),
    /// A key, and more than a name after it.
    TooDeep,
    /// Anything else: no key looks like this.
    NoSession,
}

/// The file of one session.
#[derive(Debug)]
pub(super) struct FilePath<'p> {
    pub(super) key: SessionKey,
    /// The text after the key: `None` for `/KEY`, empty for `/KEY/`.
    pub(super) name: Option<&'p str>,
}

/// A path of the messages API.
#[derive(Debug)]
pub(super) enum MessagesPath {
    /// The mount itself, where sessions are issued.
    Mount,
    /// `MOUNT/KEY`.
    Session(SessionKey),
    /// `MOUNT/n/NAMEPLATE`; `None`: no nameplate looks like this.
    Nameplate(Option<Nameplate>),
    /// Anything else below the mount: no key looks like this.
    NoSession,
}

impl<'p> Target<'p> {
    /// Reads `path`. `mount` is where the messages API stands: it begins with a slash and does not end with one.
    pub(super) fn parse(path: &'p str, mount: &str) -> Self {
        match path.strip_prefix(mount) {
            Some("") => Self::Messages(MessagesPath::Mount),
            Some(below) if below.starts_with('/') => Self::Messages(MessagesPath::parse(below)),
            _ => Self::Exchange(ExchangePath::parse(path)),
        }
    }

    /// The API that answers.
    pub(super) fn api(&self) -> ApiName {
        match self {
            Self::Exchange(_) => ApiName::Exchange,
            Self::Messages(_) => ApiName::Messages,
        }
    }

    /// Whether a request with this method may bring a body that is not empty.
    pub(super) fn takes_body(&self, method: Method) -> bool {
        match self {
            Self::Exchange(ExchangePath::Root) | Self::Messages(MessagesPath::Mount) => false,
            Self::Exchange(_) => matches!(method, Method::Post | Method::Put),
            Self::Messages(_) => method == Method::Post,
        }
    }

    /// The methods that are allowed here, as `Allow` lists them. The list is the same whether a session exists or not.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Exchange(ExchangePath::Root) => ROOT_METHODS,
            Self::Exchange(ExchangePath::Robots) => ROBOTS_METHODS,
            Self::Exchange(_) => FILE_METHODS,
            Self::Messages(MessagesPath::Mount) => MOUNT_METHODS,
            Self::Messages(MessagesPath::Nameplate(_)) => NAMEPLATE_METHODS,
            Self::Messages(_) => SESSION_METHODS,
        }
    }
}

impl<'p> ExchangePath<'p> {
    fn parse(path: &'p str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (key, name) = match path.split_once('/') {
            Some((key, name)) => (key, Some(name)),
            None => (path, None),
        };
        match (path, SessionKey::parse(key)) {
            ("", _) => Self::Root,
            ("robots.txt", _) => Self::Robots,
            (_, Some(_)) if name.is_some_and(|name| name.contains('/')) => Self::TooDeep,
            (_, Some(key)) => Self::File(FilePath { key, name }),
            (_, None) => Self::NoSession,
        }
    }
}

impl MessagesPath {
    /// Reads what stands behind the mount, from its slash on.
    fn parse(below: &str) -> Self {
        let below = below.strip_prefix('/').unwrap_or_default();
        if let Some(nameplate) = below.strip_prefix("n/") {
            return Self::Nameplate(Nameplate::parse(nameplate));
        }
        SessionKey::parse(below).map_or(Self::NoSession, Self::Session)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::ExchangePath::{File, NoSession, Robots, Root, TooDeep};
    use super::*;

    const MOUNT: &str = "/session";
    const KEY: &str = "AAAB0123456789abcdefghijklm-";

    fn parse(path: &str) -> Target<'_> {
        Target::parse(path, MOUNT)
    }

    /// The name behind the key, of a path that names a file.
    fn name(path: &str) -> Option<Option<&str>> {
        match parse(path) {
            Target::Exchange(File(FilePath { key, name })) => {
                assert_eq!(key.to_string(), KEY);
                Some(name)
            }
            _ => None,
        }
    }

    #[test]
    fn a_key_names_a_file_and_a_name_may_follow_it() {
        assert_eq!(name(&format!("/{KEY}")), Some(None));
        assert_eq!(name(&format!("/{KEY}/")), Some(Some("")));
        assert_eq!(name(&format!("/{KEY}/a%20b.txt")), Some(Some("a%20b.txt")));
        for deeper in ["a/b", "/", "a/"] {
            let path = format!("/{KEY}/{deeper}");
            assert!(matches!(parse(&path), Target::Exchange(TooDeep)), "{path}");
        }
    }

    #[test]
    fn what_no_key_looks_like_names_no_session() {
        let short = format!("/{}", &KEY[1..]);
        let long = format!("/{KEY}x");
        for path in ["*", "//", "/x", "/x/y", "/robots.txt/", "/ROBOTS.TXT", &short, &long] {
            assert!(matches!(parse(path), Target::Exchange(NoSession)), "{path}");
        }
        assert!(matches!(parse("/"), Target::Exchange(Root)));
        assert!(matches!(parse("/robots.txt"), Target::Exchange(Robots)));
    }

    #[test]
    fn only_a_whole_segment_is_the_mount() {
        assert!(matches!(parse("/session"), Target::Messages(MessagesPath::Mount)));
        let session = format!("/session/{KEY}");
        assert!(matches!(parse(&session), Target::Messages(MessagesPath::Session(_))));
        let nameplate = |path| match parse(path) {
            Target::Messages(MessagesPath::Nameplate(nameplate)) => nameplate.is_some(),
            _ => panic!("{path} is not below n/"),
        };
        for path in ["/session/n/1000", "/session/n/48213", "/session/n/999999"] {
            assert!(nameplate(path), "{path}");
        }
        for path in ["/session/n/", "/session/n/999", "/session/n/48213/", "/session/n/x"] {
            assert!(!nameplate(path), "{path}");
        }
        for path in ["/session/n", "/session/48213"] {
            assert!(matches!(parse(path), Target::Messages(MessagesPath::NoSession)), "{path}");
        }
        for path in ["/session/", "/session/x", &format!("/session/{KEY}/"), "/session//"] {
            assert!(matches!(parse(path), Target::Messages(MessagesPath::NoSession)), "{path}");
        }
        for path in ["/sessions", "/Session", "/sessio", "//session"] {
            assert!(matches!(parse(path), Target::Exchange(NoSession)), "{path}");
        }
        let deep = Target::parse("/a/b/c", "/a/b");
        assert!(matches!(deep, Target::Messages(MessagesPath::NoSession)));
        assert!(matches!(Target::parse("/a/bc", "/a/b"), Target::Exchange(NoSession)));
    }

    #[test]
    fn a_body_is_taken_where_something_is_sent() {
        use Method::{Delete, Get, Head, Options, Other, Post, Put};
        let (file, session) = (format!("/{KEY}"), format!("/session/{KEY}"));
        for (path, takes) in [
            ("/", [false, false]),
            (file.as_str(), [true, true]),
            ("/x", [true, true]),
            ("/robots.txt", [true, true]),
            ("/session", [false, false]),
            (session.as_str(), [true, false]),
            ("/session/x", [true, false]),
        ] {
            let target = parse(path);
            assert_eq!([Post, Put].map(|method| target.takes_body(method)), takes, "{path}");
            for method in [Get, Head, Delete, Options, Other] {
                assert!(!target.takes_body(method), "{path}, {method:?}");
            }
        }
    }

    #[test]
    fn each_path_has_its_api_and_its_methods() {
        for (path, api, methods) in [
            ("/", ApiName::Exchange, "GET, HEAD, POST"),
            ("/robots.txt", ApiName::Exchange, "GET, HEAD"),
            ("/x", ApiName::Exchange, "GET, HEAD, POST, PUT, DELETE"),
            ("*", ApiName::Exchange, "GET, HEAD, POST, PUT, DELETE"),
            ("/session", ApiName::Messages, "PUT"),
            ("/session/x", ApiName::Messages, "GET, HEAD, POST, PUT, DELETE"),
            ("/session/n/48213", ApiName::Messages, "GET, HEAD, POST, DELETE"),
        ] {
            let target = parse(path);
            assert_eq!((target.api(), target.methods()), (api, methods), "{path}");
        }
    }
}
