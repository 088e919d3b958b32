//! Writes a request as a line: nginx's `combined` with more behind it, or JSON. Both say the same.

use super::entry::{LogEntry, REFERER_BYTES_MAX, REQUEST_BYTES_MAX, USER_AGENT_BYTES_MAX};
use super::escape;
use crate::api::ApiName;
use crate::config::AccessFormat;
use crate::sys::clock::LocalTime;
use std::fmt::{self, Display};
use std::io::Write;
use std::net::IpAddr;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A request that is over.
#[derive(Clone, Copy)]
pub(super) struct Ended<'e> {
    pub(super) entry: &'e LogEntry,
    pub(super) client: IpAddr,
    /// The end of the request: by the calendar, and by the clock that `entry` uses.
    pub(super) time: &'e LocalTime,
    pub(super) now_ms: u64,
}

/// Adds the line of a request that is over.
pub(super) fn write(out: &mut Vec<u8>, format: AccessFormat, ended: Ended<'_>) {
    let mut line = Line { out, is_json: format == AccessFormat::Json };
    if line.is_json {
        line.json(ended);
    } else {
        line.combined(ended);
    }
    line.out.push(b'\n');
}

struct Line<'o> {
    out: &'o mut Vec<u8>,
    is_json: bool,
}

impl Line<'_> {
    fn combined(&mut self, Ended { entry, client, time, now_ms }: Ended<'_>) {
        let month = MONTHS.get(time.month).unwrap_or(&"Jan");
        let LocalTime { year, day, hour, minute, second, .. } = time;
        let (sign, hours, minutes) = time.offset();
        self.add(format_args!("{client} - - [{day:02}/{month}/{year:04}"));
        self.add(format_args!(":{hour:02}:{minute:02}:{second:02} {sign}{hours:02}{minutes:02}] "));
        let [request, referer, user_agent] = entry.words();
        self.word(request, REQUEST_BYTES_MAX);
        self.add(format_args!(" {:03} {} ", entry.status, entry.body_bytes));
        self.word(referer, REFERER_BYTES_MAX);
        self.out.push(b' ');
        self.word(user_agent, USER_AGENT_BYTES_MAX);
        for (name, value) in extras(entry, now_ms) {
            match value {
                Some(value) => self.add(format_args!(" {name}={value}")),
                None => self.add(format_args!(" {name}=-")),
            }
        }
    }

    fn json(&mut self, Ended { entry, client, time, now_ms }: Ended<'_>) {
        let [request, referer, user_agent] = entry.words();
        self.add(format_args!("{{\"time\":\"{time}\",\"client\":\"{client}\",\"request\":"));
        self.word(request, REQUEST_BYTES_MAX);
        self.add(format_args!(",\"status\":{},\"bytes\":{}", entry.status, entry.body_bytes));
        self.add(format_args!(",\"referer\":"));
        self.word(referer, REFERER_BYTES_MAX);
        self.add(format_args!(",\"user_agent\":"));
        self.word(user_agent, USER_AGENT_BYTES_MAX);
        for (name, value) in extras(entry, now_ms) {
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

    /// A client's words, in quotes.
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

/// A value of the relay's own, which needs no escape.
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

/// The fields behind nginx's.
fn extras(entry: &LogEntry, now_ms: u64) -> [(&'static str, Option<Value<'_>>); 9] {
    let (wait_ms, transfer_ms) = entry.times_ms(now_ms);
    let has_place = entry.end.is_some();
    [
        ("session", entry.session.as_ref().map(|hash| Value::Hash(hash))),
        ("role", entry.role.map(Value::Label)),
        ("api", entry.api.map(ApiName::label).map(Value::Label)),
        ("payload", entry.payload_bytes.map(Value::Count)),
        ("offset", has_place.then_some(Value::Count(entry.offset))),
        ("skipped", has_place.then_some(Value::Count(entry.skipped_bytes))),
        ("wait", wait_ms.map(Value::Millis)),
        ("transfer", transfer_ms.map(Value::Millis)),
        ("end", entry.end.map(Value::Label)),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::entry::Words;
    use super::super::redact;
    use super::*;
    use crate::session::SessionHash;
    use proptest::prelude::*;
    use shm::Role;

    const TIME: LocalTime = LocalTime {
        year: 2000,
        month: 9,
        day: 1,
        hour: 13,
        minute: 5,
        second: 36,
        offset_minutes: -150,
    };

    fn entry(request: &[u8], referer: &[u8], user_agent: &[u8]) -> LogEntry {
        let mut entry = LogEntry::default();
        let session = Some(SessionHash::new(&[1; 32], &[2; 32]));
        let mut words = Words::new(entry.begin(Some(ApiName::Exchange), session, 1000));
        words.request(|out| redact::request_line(out, request, "/session", None));
        words.referer(|out| out.extend_from_slice(referer));
        words.user_agent(|out| out.extend_from_slice(user_agent));
        entry.asks_for(Role::Sender);
        entry
    }

    fn written(format: AccessFormat, entry: &LogEntry) -> String {
        let mut out = Vec::new();
        let client = "2001:db8::1".parse().unwrap();
        write(&mut out, format, Ended { entry, client, time: &TIME, now_ms: 3250 });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_nginxs_and_more() {
        let mut entry = entry(b"PUT /a HTTP/1.1", b"", b"curl/8 \"x\"");
        entry.begun(2000);
        entry.ended("delivered", Some(10));
        entry.resumes(4, 3);
        entry.answered(200, 19);
        let hash = entry.session.unwrap();
        let wanted = format!(
            "2001:db8::1 - - [01/Oct/2000:13:05:36 -0230] \"PUT /a HTTP/1.1\" 200 19 \"-\" \
             \"curl/8 \\x22x\\x22\" session={hash} role=sender api=exchange payload=10 \
             offset=4 skipped=3 wait=1.000 \
             transfer=1.250 end=delivered\n"
        );
        assert_eq!(written(AccessFormat::Combined, &entry), wanted);
        let json: serde_json::Value =
            serde_json::from_str(&written(AccessFormat::Json, &entry)).unwrap();
        let wanted = serde_json::json!({
            "time": "2000-10-01T13:05:36-02:30", "client": "2001:db8::1", "status": 200, "bytes": 19,
            "request": "PUT /a HTTP/1.1", "referer": null, "user_agent": "curl/8 \\x22x\\x22",
            "session": hash.to_string(), "role": "sender", "api": "exchange", "payload": 10,
            "offset": 4, "skipped": 3, "wait": 1.0, "transfer": 1.25, "end": "delivered",
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn what_is_not_known_is_left_open() {
        let mut entry = LogEntry::default();
        entry.begin(None, None, 0);
        let line = written(AccessFormat::Combined, &entry);
        let wanted = "] \"-\" 000 0 \"-\" \"-\" session=- role=- api=- payload=- offset=- skipped=- \
                      wait=- transfer=- end=-\n";
        assert!(line.ends_with(wanted), "{line}");
        entry.client_left();
        assert!(written(AccessFormat::Json, &entry).contains("\"status\":499,"));
    }

    proptest! {
        #[test]
        fn whatever_a_client_says_is_one_line(
            request in prop::collection::vec(any::<u8>(), 0..5000),
            referer in prop::collection::vec(any::<u8>(), 0..1000),
            user_agent in prop::collection::vec(any::<u8>(), 0..5000),
        ) {
            let mut entry = entry(&request, &referer, &user_agent);
            entry.answered(200, u64::MAX);
            entry.ended("peer_worker_lost", Some(u64::MAX));
            entry.resumes(u64::MAX, u64::MAX);
            entry.begun(0);
            for format in [AccessFormat::Combined, AccessFormat::Json] {
                let line = written(format, &entry);
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
