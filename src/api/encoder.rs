//! The bytes of a relayed answer around its payload: its head, the lines of a chunked coding, its end.
//!
//! `relay` makes an [`Encoder`] for each answer and asks it before and behind each piece of payload. The end is
//! written once, and only after all of the payload. An answer of known length has no other end.

use super::messages::TRUNCATED_END;
use super::{Announcement, Api};
use crate::http::{Cors, ResponseHead, Status, chunk_line};
use std::time::SystemTime;

/// The fields of every relayed answer beside the payload's own: a browser keeps the payload in a sandbox, and no
/// cache keeps it at all.
pub const RELAYED_FIELDS: [(&str, &str); 5] = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "sandbox; default-src 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("X-Robots-Tag", "none"),
];

/// The part of a head that depends on the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionFields {
    /// Whether the connection goes on after the answer.
    pub(crate) keep_alive: bool,
    /// Whether the client speaks HTTP/1.0, and has to be told that it goes on.
    pub(crate) is_http10: bool,
    /// Whether a page in a browser may read the answer.
    pub(crate) cors: Cors<'static>,
}

/// Frames one relayed answer.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    length: Option<u64>,
    is_ended: bool,
    /// Nothing stands around the payload.
    is_bare: bool,
}

impl Encoder {
    /// Writes the head of the answer with `status` to `out`.
    pub(crate) fn begin(
        out: &mut Vec<u8>,
        status: Status,
        announced: &Announcement,
        api: &Api,
        connection: ConnectionFields,
    ) -> Self {
        let mut head = ResponseHead::start(out, status, SystemTime::now());
        for (name, value) in RELAYED_FIELDS {
            head.field(name, value);
        }
        let content_type = announced.content_type.as_deref();
        head.field_bytes("Content-Type", content_type.unwrap_or(b"application/octet-stream"));
        if let Some(encoding) = &announced.encoding {
            head.field_bytes("Content-Encoding", encoding);
        }
        api.write_fields(&mut head, status, announced);
        match announced.length {
            Some(length) => head.content_length(length),
            None => head.chunked(),
        };
        connection.cors.write(&mut head);
        match (connection.keep_alive, connection.is_http10) {
            (false, _) => head.close(),
            (true, true) => head.keep_alive(),
            (true, false) => &mut head,
        }
        .end();
        Self { length: announced.length, is_ended: false, is_bare: false }
    }

    /// Writes nothing around the payload, whose length is not known.
    pub(crate) fn bare() -> Self {
        Self { is_bare: true, ..Self::default() }
    }

    /// Payload bytes of the answer, where its head says so.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether the payload goes out in a chunked coding.
    pub(crate) fn is_chunked(&self) -> bool {
        self.length.is_none() && !self.is_bare
    }

    /// Writes what stands before a piece of `bytes` of payload.
    pub(crate) fn begin_piece(&self, out: &mut Vec<u8>, bytes: u64) {
        if self.is_chunked() {
            out.extend_from_slice(chunk_line(bytes).as_bytes());
        }
    }

    /// The bytes behind each piece of payload.
    pub(crate) fn piece_end(&self) -> &'static [u8] {
        if self.is_chunked() { b"\r\n" } else { b"" }
    }

    /// Writes the end of the answer, once. `is_truncated`: its sender was lost, and the end says so.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>, is_truncated: bool) {
        if self.is_chunked() && !std::mem::replace(&mut self.is_ended, true) {
            out.extend_from_slice(if is_truncated { TRUNCATED_END } else { b"0\r\n\r\n" });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::{MessageRole, Renewal};
    use crate::config::Receipt;
    use crate::http::FileName;
    use std::time::Duration;

    fn lasting() -> ConnectionFields {
        ConnectionFields { keep_alive: true, is_http10: false, cors: Cors::default() }
    }

    fn announced(length: Option<u64>) -> Announcement {
        Announcement {
            length,
            file: None,
            content_type: None,
            encoding: None,
            name: FileName::from_bytes(b"a.txt"),
            receipt: Receipt::Acked,
        }
    }

    fn begin(length: Option<u64>, api: &Api, connection: ConnectionFields) -> (Encoder, String) {
        let mut out = Vec::new();
        let encoder = Encoder::begin(&mut out, Status::Ok, &announced(length), api, connection);
        (encoder, String::from_utf8(out).unwrap())
    }

    /// Encodes two pieces and the end, without the head.
    fn around(mut encoder: Encoder, is_truncated: bool) -> String {
        let mut out = Vec::new();
        for piece in ["payload", "x"] {
            encoder.begin_piece(&mut out, piece.len() as u64);
            out.extend_from_slice(piece.as_bytes());
            out.extend_from_slice(encoder.piece_end());
        }
        encoder.end(&mut out, is_truncated);
        encoder.end(&mut out, is_truncated);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_known_length_has_no_framing() {
        let (encoder, head) = begin(Some(8), &Api::Exchange, lasting());
        assert!(head.contains("Content-Length: 8\r\n") && !head.contains("chunked"), "{head}");
        assert!(head.contains("attachment") && head.contains("a.txt"), "{head}");
        assert_eq!(around(encoder, false), "payloadx");
    }

    #[test]
    fn an_unknown_length_is_chunked_and_ended_once() {
        let (encoder, head) = begin(None, &Api::Exchange, lasting());
        assert!(head.contains("chunked\r\n") && !head.contains("Content-Length"), "{head}");
        assert_eq!(around(encoder, false), "7\r\npayload\r\n1\r\nx\r\n0\r\n\r\n");
    }

    #[test]
    fn a_lost_sender_is_told_of_in_the_trailer_that_the_head_announced() {
        let (encoder, head) = begin(None, &Api::Messages { renewal: None }, lasting());
        assert!(head.contains("Trailer: X-Transfer-Status\r\n"), "{head}");
        assert!(around(encoder, true).ends_with("0\r\nX-Transfer-Status: truncated\r\n\r\n"));
    }

    #[test]
    fn a_host_has_its_cookie_renewed_and_a_guest_has_none() {
        let (token, path) = ("secret".to_owned(), "/session/key".to_owned());
        let renewal = Renewal { token, path, https: false, lifetime: Duration::from_secs(60) };
        let (_, host) =
            begin(Some(1), &Api::Messages { renewal: Some(Box::new(renewal)) }, lasting());
        let (_, guest) = begin(Some(1), &Api::Messages { renewal: None }, lasting());
        let role = |role: MessageRole| format!("{}: {}\r\n", MessageRole::FIELD, role.as_str());
        assert!(host.contains("Set-Cookie: ") && host.contains(&role(MessageRole::Host)), "{host}");
        assert!(
            !guest.contains("Set-Cookie") && guest.contains(&role(MessageRole::Guest)),
            "{guest}"
        );
    }

    #[test]
    fn the_head_tells_whether_the_connection_goes_on() {
        let head = |keep_alive, is_http10| {
            begin(Some(1), &Api::Exchange, ConnectionFields { keep_alive, is_http10, ..lasting() })
                .1
        };
        assert!(head(false, false).contains("Connection: close\r\n"));
        assert!(head(true, true).contains("Connection: keep-alive\r\n"));
        assert!(!head(true, false).contains("Connection:"));
    }
}
