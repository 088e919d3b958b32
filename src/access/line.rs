//! A request as a line: nginx's `combined` with more behind it, or JSON. Both say the same.

use super::escape;
use super::note::{Note, REFERER_BYTES_MAX, REQUEST_BYTES_MAX, USER_AGENT_BYTES_MAX};
use crate::config::AccessFormat;
use crate::sys::clock::LocalTime;
use crate::tally::Api;
use shm::Role;
use std::fmt::{self, Display};
use std::io::Write;
use std::net::IpAddr;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Adds the line of a request that is over `now_ms`, which is the time `time`.
pub(super) fn write(
    out: &mut Vec<u8>,
    format: AccessFormat,
    note: &Note,
    client: IpAddr,
    time: &LocalTime,
    now_ms: u64,
) {
    let mut line = Line { out, is_json: format == AccessFormat::Json };
    if line.is_json {
        line.json(note, client, time, now_ms);
    } else {
        line.combined(note, client, time, now_ms);
    }
    line.out.push(b'\n');
}

struct Line<'o> {
    out: &'o mut Vec<u8>,
    is_json: bool,
}

impl Line<'_> {
    fn combined(&mut self, note: &Note, client: IpAddr, time: &LocalTime, now_ms: u64) {
        let month = MONTHS.get(time.month).unwrap_or(&"Jan");
        let LocalTime { year, day, hour, minute, second, .. } = time;
        let (sign, hours, minutes) = time.offset();
        self.add(format_args!("{client} - - [{day:02}/{month}/{year:04}"));
        self.add(format_args!(":{hour:02}:{minute:02}:{second:02} {sign}{hours:02}{minutes:02}] "));
        let [request, referer, user_agent] = note.words();
        self.word(request, REQUEST_BYTES_MAX);
        self.add(format_args!(" {:03} {} ", note.status, note.body_bytes));
        self.word(referer, REFERER_BYTES_MAX);
        self.out.push(b' ');
        self.word(user_agent, USER_AGENT_BYTES_MAX);
        for (name, value) in extras(note, now_ms) {
            match value {
                Some(value) => self.add(format_args!(" {name}={value}")),
                None => self.add(format_args!(" {name}=-")),
            }
        }
    }

    fn json(&mut self, note: &Note, client: IpAddr, time: &LocalTime, now_ms: u64) {
        let [request, referer, user_agent] = note.words();
        self.add(format_args!("{{\"time\":\"{time}\",\"client\":\"{client}\",\"request\":"));
        self.word(request, REQUEST_BYTES_MAX);
        self.add(format_args!(",\"status\":{},\"bytes\":{}", note.status, note.body_bytes));
        self.add(format_args!(",\"referer\":"));
        self.word(referer, REFERER_BYTES_MAX);
        self.add(format_args!(",\"user_agent\":"));
        self.word(user_agent, USER_AGENT_BYTES_MAX);
        for (name, value) in extras(note, now_ms) {
            match value {
                Some(value @ (Value::Count(_) | Value::Millis(_))) => {
                    self.add(format_args!(",\"{name}\":{value}"));
                }
                Some(value) => self.add(format_args!(",\"{name}\":\"{value}\"")),
                None => self.add(format_args!(",\"{name}\":null")),
            }
        }
        self.out.push(b'}');
    }

    /// What a client said, in quotes.
    fn word(&mut self, word: &[u8], bytes_max: usize) {
        if word.is_empty() {
            self.out.extend_from_slice(if self.is_json { b"null" } else { b"\"-\"" });
            return;
        }
        self.out.push(b'"');
        escape::text(self.out, word, bytes_max, self.is_json);
        self.out.push(b'"');
    }

    fn add(&mut self, text: fmt::Arguments<'_>) {
        // A `Vec` takes all that is written to it.
        let _ = self.out.write_fmt(text);
    }
}

/// A value of ours, which needs no escape.
enum Value<'n> {
    Hash(&'n dyn Display),
    Label(&'static str),
    Count(u64),
    /// Written in seconds.
    Millis(u64),
}

impl Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash(hash) => hash.fmt(f),
            Self::Label(label) => f.write_str(label),
            Self::Count(count) => count.fmt(f),
            Self::Millis(ms) => write!(f, "{}.{:03}", ms / 1000, ms % 1000),
        }
    }
}

/// What stands behind nginx's fields.
fn extras(note: &Note, now_ms: u64) -> [(&'static str, Option<Value<'_>>); 7] {
    let role = note.role.map(|role| match role {
        Role::Sender => "sender",
        Role::Receiver => "receiver",
    });
    let (wait_ms, transfer_ms) = note.times_ms(now_ms);
    [
        ("session", note.session.as_ref().map(|hash| Value::Hash(hash))),
        ("role", role.map(Value::Label)),
        ("api", note.api.map(Api::label).map(Value::Label)),
        ("payload", note.payload_bytes.map(Value::Count)),
        ("wait", wait_ms.map(Value::Millis)),
        ("transfer", transfer_ms.map(Value::Millis)),
        ("end", note.end.map(Value::Label)),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::note::Words;
    use super::super::redact;
    use super::*;
    use crate::session::SessionHash;
    use proptest::prelude::*;

    const TIME: LocalTime = LocalTime {
        year: 2000,
        month: 9,
        day: 1,
        hour: 13,
        minute: 5,
        second: 36,
        offset_minutes: -150,
    };

    fn note(request: &[u8], referer: &[u8], user_agent: &[u8]) -> Note {
        let mut note = Note::default();
        let session = Some(SessionHash::new(&[1; 32], &[2; 32]));
        let mut words = Words::new(note.begin(Some(Api::Exchange), session, 1000));
        words.request(|out| redact::request_line(out, request, "/session", None));
        words.referer(|out| out.extend_from_slice(referer));
        words.user_agent(|out| out.extend_from_slice(user_agent));
        note.asks_for(Role::Sender);
        note
    }

    fn written(format: AccessFormat, note: &Note) -> String {
        let mut out = Vec::new();
        write(&mut out, format, note, "2001:db8::1".parse().unwrap(), &TIME, 3250);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_nginxs_and_more() {
        let mut note = note(b"PUT /a HTTP/1.1", b"", b"curl/8 \"x\"");
        note.met(2000);
        note.ended("delivered", Some(10));
        note.answered(200, 19);
        let hash = note.session.unwrap();
        let wanted = format!(
            "2001:db8::1 - - [01/Oct/2000:13:05:36 -0230] \"PUT /a HTTP/1.1\" 200 19 \"-\" \
             \"curl/8 \\x22x\\x22\" session={hash} role=sender api=exchange payload=10 wait=1.000 \
             transfer=1.250 end=delivered\n"
        );
        assert_eq!(written(AccessFormat::Combined, &note), wanted);
        let json: serde_json::Value =
            serde_json::from_str(&written(AccessFormat::Json, &note)).unwrap();
        let wanted = serde_json::json!({
            "time": "2000-10-01T13:05:36-02:30", "client": "2001:db8::1", "status": 200, "bytes": 19,
            "request": "PUT /a HTTP/1.1", "referer": null, "user_agent": "curl/8 \\x22x\\x22",
            "session": hash.to_string(), "role": "sender", "api": "exchange", "payload": 10,
            "wait": 1.0, "transfer": 1.25, "end": "delivered",
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn what_is_not_known_is_left_open() {
        let mut note = Note::default();
        note.begin(None, None, 0);
        let line = written(AccessFormat::Combined, &note);
        let wanted =
            "] \"-\" 000 0 \"-\" \"-\" session=- role=- api=- payload=- wait=- transfer=- end=-\n";
        assert!(line.ends_with(wanted), "{line}");
        note.client_left();
        assert!(written(AccessFormat::Json, &note).contains("\"status\":499,"));
    }

    proptest! {
        #[test]
        fn whatever_a_client_says_is_one_line(
            request in prop::collection::vec(any::<u8>(), 0..5000),
            referer in prop::collection::vec(any::<u8>(), 0..1000),
            user_agent in prop::collection::vec(any::<u8>(), 0..5000),
        ) {
            let mut note = note(&request, &referer, &user_agent);
            note.answered(200, u64::MAX);
            note.ended("peer_worker_lost", Some(u64::MAX));
            note.met(0);
            for format in [AccessFormat::Combined, AccessFormat::Json] {
                let line = written(format, &note);
                prop_assert!(line.len() < super::super::LINE_BYTES_MAX, "{} bytes", line.len());
                let line = line.strip_suffix('\n').unwrap();
                prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                if format == AccessFormat::Json {
                    prop_assert!(serde_json::from_str::<serde_json::Value>(line).is_ok());
                } else {
                    prop_assert_eq!(line.matches('"').count(), 6);
                }
            }
        }
    }
}
