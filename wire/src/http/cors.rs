//! CORS, the protocol of the Fetch standard that tells a browser which pages may read an answer.
//!
//! The configuration makes [`Origins`], the worker asks them about each request, and each head of an
//! answer is written with the resulting [`Cors`]. Invariant: no value of a request is echoed, and no
//! answer lets a page act with a client's cookies (`Access-Control-Allow-Credentials`).

use super::ResponseHead;
use memchr::memmem;

/// The methods that a page may use.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";

/// The fields that a page may set, beside those that every page may.
const REQUEST_FIELDS: &str = "Authorization, Content-Disposition, Content-Encoding, Content-Range, \
     Content-Type, ETag, If-Range, Range, Repr-Digest, Upload-Offset, X-Guest, X-Peer-Address, X-Receipt, X-Timeout, \
     X-Type";

/// The fields that a page may read, beside those that every page may.
const ANSWER_FIELDS: &str = "Accept-Ranges, Allow, Content-Disposition, Content-Encoding, Content-Range, ETag, \
     Location, Retry-After, Upload-Length, Upload-Offset, WWW-Authenticate, X-Bytes-Delivered, X-Bytes-Relayed, \
     X-Nameplate, X-Receipt, X-Role, X-Session-Expires, X-Type, X-Waiting";

/// How long a browser may keep the answer to a preflight: the most that Chromium does.
const MAX_AGE_SECONDS: u32 = 7200;

/// The origins whose pages may use the relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// No origin. The relay sends no CORS field.
    #[default]
    Nobody,
    /// Every origin.
    Anybody,
    /// The listed origins: at least one, and each passes [`is_origin`].
    Listed(Vec<String>),
}

impl Origins {
    /// Decides what to say to a request from `origin`, which is called only if the answer depends on it.
    pub fn judge<'o, 'b>(&'o self, origin: impl FnOnce() -> Option<&'b [u8]>) -> Cors<'o> {
        match self {
            Self::Nobody => Cors::default(),
            Self::Anybody => Cors { granted: Some("*"), is_spoken: true, varies: false },
            Self::Listed(origins) => {
                let origin = origin();
                let named = |it: &&String| origin == Some(it.as_bytes());
                let granted = origins.iter().find(named).map(String::as_str);
                Cors { granted, is_spoken: true, varies: true }
            }
        }
    }
}

/// The CORS fields of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cors<'o> {
    /// The origin whose pages may read it.
    granted: Option<&'o str>,
    is_spoken: bool,
    /// Another origin would get another answer.
    varies: bool,
}

impl Cors<'_> {
    /// Whether any origin is allowed at all.
    #[must_use]
    pub fn is_spoken(self) -> bool {
        self.is_spoken
    }

    /// Whether the page that asked may read the answer.
    #[must_use]
    pub fn is_granted(self) -> bool {
        self.granted.is_some()
    }

    /// The fields that only a preflight gets. `is_private`: it asks to enter a private network.
    pub fn preflight(self, is_private: bool) -> impl Iterator<Item = (&'static str, String)> {
        let fields = [
            Some(("Access-Control-Allow-Methods", METHODS.to_owned())),
            Some(("Access-Control-Allow-Headers", REQUEST_FIELDS.to_owned())),
            Some(("Access-Control-Max-Age", MAX_AGE_SECONDS.to_string())),
            is_private.then(|| ("Access-Control-Allow-Private-Network", "true".to_owned())),
        ];
        fields.into_iter().flatten().filter(move |_| self.is_granted())
    }

    /// Writes its fields.
    pub fn write(self, head: &mut ResponseHead<'_>) {
        if let Some(origin) = self.granted {
            head.field("Access-Control-Allow-Origin", origin);
            head.field("Access-Control-Expose-Headers", ANSWER_FIELDS);
        }
        if self.varies {
            head.field("Vary", "Origin");
        }
    }
}

/// Whether `text` is an origin as a browser writes it (RFC 6454, section 6.2): scheme, host and perhaps
/// a port, in lower case, without the scheme's own port. `null` is no origin: it stands for every page
/// that has none.
#[must_use]
pub fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let in_scheme =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let is_scheme =
        scheme.starts_with(|it: char| it.is_ascii_lowercase()) && scheme.bytes().all(in_scheme);
    is_scheme && is_host_and_port(scheme, authority)
}

fn is_host_and_port(scheme: &str, authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of an address in brackets belongs to the address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    is_host(host) && port.is_none_or(|port| is_port(scheme, port))
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        // Browsers send the short form alone.
        return address.parse::<core::net::Ipv6Addr>().is_ok_and(|it| it.to_string() == address);
    }
    let in_host =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    !host.is_empty() && host.bytes().all(in_host)
}

fn is_port(scheme: &str, port: &str) -> bool {
    let own = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    // Refuses `08080` and `+8080`.
    port.parse::<u16>().is_ok_and(|it| it.to_string() == port && it != 0 && Some(it) != own)
}

/// The value of the first `Origin` field in `bytes`, which are a malformed head or the beginning of one.
#[must_use]
pub fn origin_in(bytes: &[u8]) -> Option<&[u8]> {
    let head = memmem::find(bytes, b"\r\n\r\n").and_then(|end| bytes.get(..end)).unwrap_or(bytes);
    let mut lines = head.split(|&byte| byte == b'\n').skip(1);
    lines.find_map(|line| {
        let (name, value) = line.split_at_checked(b"origin:".len())?;
        name.eq_ignore_ascii_case(b"origin:").then(|| value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::Status;
    use proptest::prelude::*;
    use std::time::SystemTime;

    fn listed(origins: &[&str]) -> Origins {
        Origins::Listed(origins.iter().map(|&it| it.to_owned()).collect())
    }

    fn head(cors: Cors<'_>) -> String {
        let mut out = Vec::new();
        let mut head = ResponseHead::start(&mut out, Status::Ok, SystemTime::UNIX_EPOCH);
        cors.write(&mut head);
        head.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_origin_is_granted_by_its_very_bytes() {
        let origins = listed(&["https://page.example", "http://localhost:3000"]);
        for (origin, is_granted) in [
            (Some(&b"https://page.example"[..]), true),
            (Some(b"http://localhost:3000"), true),
            (Some(b"https://page.example.evil.example"), false),
            (Some(b"https://page.exampl"), false),
            (Some(b"http://page.example"), false),
            (Some(b"HTTPS://page.example"), false),
            (Some(b"null"), false),
            (Some(b""), false),
            (None, false),
        ] {
            let cors = origins.judge(|| origin);
            assert_eq!(cors.is_granted(), is_granted, "{origin:?}");
            let head = head(cors);
            assert!(head.contains("\r\nVary: Origin\r\n"), "{head}");
            assert_eq!(head.contains("Access-Control-Allow-Origin: "), is_granted, "{head}");
            assert_eq!(cors.preflight(true).count() > 0, is_granted);
        }
    }

    #[test]
    fn anybody_is_granted_without_being_asked_and_nobody_is_told_nothing() {
        let cors = Origins::Anybody.judge(|| panic!("it does not matter"));
        let said = head(cors);
        assert!(said.contains("\r\nAccess-Control-Allow-Origin: *\r\n"), "{said}");
        assert!(!said.contains("Vary"), "{said}");
        let cors = Origins::Nobody.judge(|| panic!("it does not matter"));
        assert!(!cors.is_spoken() && !cors.is_granted());
        assert_eq!(head(cors), head(Cors::default()));
        assert!(!head(cors).contains("Access-Control") && !head(cors).contains("Vary"));
    }

    #[test]
    fn the_way_into_a_private_network_is_shown_to_who_asks() {
        let names = |is_private| -> Vec<_> {
            let cors = Origins::Anybody.judge(|| None);
            cors.preflight(is_private).map(|(name, _)| name).collect()
        };
        assert!(!names(false).contains(&"Access-Control-Allow-Private-Network"));
        assert!(names(true).contains(&"Access-Control-Allow-Private-Network"));
    }

    #[test]
    fn an_origin_is_what_a_browser_sends_as_one() {
        for text in [
            "https://page.example",
            "http://localhost:3000",
            "http://192.0.2.1:8080",
            "http://[::1]:8080",
            "http://[::1]",
            "https://xn--bcher-kva.example",
            "https://page.example:80",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert!(is_origin(text), "{text:?}");
        }
        for text in [
            "",
            "*",
            "null",
            "page.example",
            "https://",
            "://page.example",
            "https://page.example/",
            "https://page.example:443",
            "http://page.example:80",
            "https://page.example:0",
            "https://page.example:08080",
            "https://page.example:",
            "https://page.example:65536",
            "https://Page.example",
            "HTTPS://page.example",
            "https://user@page.example",
            "https://*.example",
            "https://page.example https://b.example",
            "https://bücher.example",
            "http://[::0001]",
            "http://::1",
            "1s://page.example",
        ] {
            assert!(!is_origin(text), "{text:?}");
        }
    }

    #[test]
    fn an_origin_is_found_in_a_head_that_cannot_be_read() {
        let head = |lines: &str| origin_in(lines.as_bytes()).map(<[u8]>::to_vec);
        let found = Some(b"https://a.example".to_vec());
        assert_eq!(head("GET / HTTP/9\r\nHost: a\r\noRigin:\thttps://a.example \r\n\r\n"), found);
        assert_eq!(head("GET /\r\nOrigin: https://a.example"), found);
        assert_eq!(head("Origin: https://a.example\r\nX: y\r\n\r\n"), None);
        assert_eq!(head("GET /\r\nX: y\r\n\r\nOrigin: https://a.example\r\n"), None);
        assert_eq!(head("GET /\r\nX-Origin: https://a.example\r\n\r\n"), None);
        assert_eq!(head(""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_through_without_a_panic(bytes: Vec<u8>, text: String) {
            let _ = (origin_in(&bytes), is_origin(&text));
        }
    }
}
