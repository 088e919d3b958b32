//! A response as a strict client reads it: every leniency is left out, because the relay's answers must be right for the
//! least tolerant peer. Called by `raw`; a malformed response is a failed test, so it panics with the bytes.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Status line and header fields.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
}

/// How a response ended, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The body is whole by its framing.
    Complete,
    /// The peer closed before the framing was satisfied.
    Truncated,
    /// The connection was reset before the framing was satisfied.
    Reset,
}

/// A whole answer, with the statuses of the interim ones before it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) interim: Vec<u16>,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// The fields behind a chunked body.
    pub(crate) trailer: Vec<(String, String)>,
    pub(crate) ending: Ending,
}

/// How the body that follows a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    None,
    Length(u64),
    Chunked,
}

impl Head {
    /// Parses the bytes up to and including the empty line.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let text =
            std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("head is not ASCII: {shown:?}"));
        let text =
            text.strip_suffix("\r\n\r\n").unwrap_or_else(|| panic!("head without end: {shown:?}"));
        let mut lines = text.split("\r\n");
        let status = Self::status_line(lines.next().unwrap_or_default());
        let fields: Vec<_> = lines.map(Self::field_line).collect();
        let mut seen = HashSet::new();
        for (name, _) in &fields {
            let repeatable = name.eq_ignore_ascii_case("set-cookie");
            assert!(
                seen.insert(name.to_ascii_lowercase()) || repeatable,
                "field {name} twice: {shown:?}"
            );
        }
        Self { status, fields }
    }

    fn status_line(line: &str) -> u16 {
        let rest = line.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("status line {line:?}"));
        let (code, reason) =
            rest.split_once(' ').unwrap_or_else(|| panic!("no reason phrase: {line:?}"));
        assert!(
            code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()),
            "status code in {line:?}"
        );
        assert!(reason.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "reason in {line:?}");
        code.parse().unwrap()
    }

    pub(crate) fn field_line(line: &str) -> (String, String) {
        let (name, value) =
            line.split_once(':').unwrap_or_else(|| panic!("field without colon: {line:?}"));
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        assert!(!name.is_empty() && name.bytes().all(token), "field name in {line:?}");
        let value = value.trim_matches([' ', '\t']);
        // A file's name may stand there in UTF-8, and nothing else of the kind.
        let may_be_utf8 = name == "Content-Disposition";
        let is_fit =
            |b: u8| b == b'\t' || (b' '..=b'~').contains(&b) || (may_be_utf8 && !b.is_ascii());
        assert!(value.bytes().all(is_fit), "field value in {line:?}");
        (name.to_owned(), value.to_owned())
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The field's value; panics when it is missing.
    #[track_caller]
    pub(crate) fn must(&self, name: &str) -> &str {
        self.field(name).unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }

    pub(crate) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }

    /// The delivery report's number.
    #[track_caller]
    pub(crate) fn delivered_bytes(&self) -> u64 {
        self.must("X-Bytes-Delivered").parse().expect("a number")
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("Connection").is_some_and(|v| v.eq_ignore_ascii_case("close"))
    }

    pub(crate) fn framing(&self, to_head_request: bool) -> BodyFraming {
        let length = self.field("Content-Length");
        let coding = self.field("Transfer-Encoding");
        assert!(length.is_none() || coding.is_none(), "two framings: {self:#?}");
        if self.is_interim() || self.status == 204 {
            assert!(length.is_none() && coding.is_none(), "a body on {}: {self:#?}", self.status);
            return BodyFraming::None;
        }
        if let Some(coding) = coding {
            assert_eq!(coding, "chunked");
            return if to_head_request { BodyFraming::None } else { BodyFraming::Chunked };
        }
        let Some(length) = length else {
            // The relay need not know the answer to GET.
            assert!(to_head_request, "delimited by close: {self:#?}");
            return BodyFraming::None;
        };
        assert!(
            !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()),
            "Content-Length {length:?}"
        );
        if to_head_request {
            BodyFraming::None
        } else {
            BodyFraming::Length(length.parse().unwrap())
        }
    }
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text body")
    }

    /// Panics unless the answer is whole and has this status; gives itself back for further questions.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.head.status,
            status,
            "{:#?}\n{}",
            self.head,
            String::from_utf8_lossy(&self.body)
        );
        assert_eq!(self.ending, Ending::Complete, "{:#?}", self.head);
        self
    }

    /// [`Response::expect`] for an answer without a body.
    #[track_caller]
    pub(crate) fn expect_empty(self, status: u16) -> Self {
        let response = self.expect(status);
        assert_eq!(response.head.must("Content-Length"), "0");
        assert_eq!(response.head.must("Server"), "idontstore");
        response.head.must("Date");
        assert_eq!(response.head.field("Content-Type"), None, "a type of nothing");
        response
    }

    /// [`Response::expect`] for an error: one line of text, with a length, and the fields all answers have.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16) -> Self {
        let response = self.expect(status);
        response.head.must("Content-Length");
        response.head.must("Date");
        assert_eq!(response.head.must("Server"), "idontstore");
        assert!(
            response.head.must("Content-Type").starts_with("text/plain"),
            "{:#?}",
            response.head
        );
        let text = response.text();
        assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "not one line: {text:?}");
        assert!(text.trim().len() > 2, "says nothing: {text:?}");
        response
    }
}

/// Panics unless a safe-conduct's document tells when the session expires, the same time in both its forms, and that is
/// `expires`, give or take the second between two looks at the clock.
#[track_caller]
pub(crate) fn expect_one_time(document: &serde_json::Value, expires: SystemTime) {
    let text = |name: &str| document[name].as_str().unwrap_or_else(|| panic!("{document}"));
    let said = httpdate::parse_http_date(text("expires")).expect("an HTTP date");
    let off = said.duration_since(expires).unwrap_or_else(|e| e.duration());
    assert!(off <= Duration::from_secs(1), "{document}");
    // GNU date knows both forms.
    let seconds = |date: &str| {
        let date = Command::new("date").args(["-u", "+%s", "-d", date]).output().unwrap();
        String::from_utf8(date.stdout).unwrap()
    };
    let (iso, http) = (text("expires_at"), text("expires"));
    assert!(iso.len() == 20 && iso.ends_with('Z') && iso.contains('T'), "{iso}");
    assert!(!seconds(iso).is_empty() && seconds(iso) == seconds(http), "{iso}, {http}");
}
