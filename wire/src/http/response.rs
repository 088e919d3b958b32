//! Heads and error bodies of answers.
//!
//! The worker builds every answer here. Invariant: each head has `Date` and `Server`, and no value can
//! end its line early, wherever it came from.

use std::cell::RefCell;
use std::fmt::{self, Display, Write};
use std::time::{Duration, SystemTime};

use httpdate::HttpDate;
use serde::Serialize;

use super::Status;

/// The one interim answer.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Last second of the year 9999: a date has four digits for it (RFC 9110, section 5.6.7).
const DATE_MAX: Duration = Duration::from_secs(253_402_300_799);

/// Room that most heads fit into.
const HEAD_BYTES_USUAL: usize = 512;

thread_local! {
    /// The second of the last answer, and its date. Writing a date each time took a tenth of the relay's
    /// own time in a small exchange.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// A response head being written at the end of a buffer. The status line says `HTTP/1.1` to every
/// client, as RFC 9110 (section 2.5) asks. `Connection` tells an HTTP/1.0 client the rest.
#[derive(Debug)]
#[must_use = "a head needs its `end`"]
pub struct ResponseHead<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> ResponseHead<'o> {
    /// Writes the status line, `Date` and `Server`.
    pub fn start(out: &'o mut Vec<u8>, status: Status, now: SystemTime) -> Self {
        out.reserve(HEAD_BYTES_USUAL);
        let mut head = Self { out };
        head.text(format_args!("HTTP/1.1 {} {}", status.code(), status.reason()));
        head.out.extend_from_slice(b"\r\n");
        let second = since_epoch(now).as_secs();
        DATE.with_borrow_mut(|(of, date)| {
            if std::mem::replace(of, second) != second {
                *date = http_date(now).to_string();
            }
            head.field("Date", &*date);
        });
        head.field("Server", "idontstore");
        head
    }

    /// Writes a field. A control character in the value is a bug of the caller, and is left out.
    pub fn field(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.text(format_args!("{name}: {value}"));
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Writes a field whose value comes from a request and need not be UTF-8.
    pub fn field_bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.text(format_args!("{name}: "));
        self.out.extend(value.iter().filter(|&&byte| is_fit(byte)));
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Says how many bytes the body has.
    pub fn content_length(&mut self, bytes: u64) -> &mut Self {
        self.field("Content-Length", bytes)
    }

    /// Says that the body is chunked.
    pub fn chunked(&mut self) -> &mut Self {
        self.field("Transfer-Encoding", "chunked")
    }

    /// Says that this is the last answer on the connection.
    pub fn close(&mut self) -> &mut Self {
        self.field("Connection", "close")
    }

    /// Tells an HTTP/1.0 client that asked for it that the connection stays open.
    pub fn keep_alive(&mut self) -> &mut Self {
        self.field("Connection", "keep-alive")
    }

    /// Writes the empty line.
    pub fn end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }

    fn text(&mut self, text: fmt::Arguments<'_>) {
        let written = OneLine(self.out).write_fmt(text);
        debug_assert!(written.is_ok(), "a value that cannot be formatted");
    }
}

/// Whether a byte may stand in a value. A tab may, but no value written here has one.
fn is_fit(byte: u8) -> bool {
    let fit = byte == b'\t' || !byte.is_ascii_control();
    debug_assert!(fit, "control character {byte:#04x} in a header value");
    fit
}

/// Passes on every character but control characters.
struct OneLine<'o>(&'o mut Vec<u8>);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The fold never ends early, so the compiler checks many bytes at a time.
        if text.bytes().fold(true, |fits, byte| fits & is_fit(byte)) {
            self.0.extend_from_slice(text.as_bytes());
        } else {
            self.0.extend(text.bytes().filter(|&byte| is_fit(byte)));
        }
        Ok(())
    }
}

/// A time in the form of the fields `Date`, `Expires` and `X-Session-Expires`.
fn http_date(time: SystemTime) -> impl Display {
    HttpDate::from(SystemTime::UNIX_EPOCH + since_epoch(time).min(DATE_MAX))
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The end of a `lifetime` that begins `now`. A lifetime may come from shared memory, so the sum must not
/// overflow for any value.
pub fn http_date_after(now: SystemTime, lifetime: Duration) -> impl Display {
    http_date(now.checked_add(lifetime).unwrap_or(SystemTime::UNIX_EPOCH + DATE_MAX))
}

/// The same time in the form of JSON documents: RFC 3339, in UTC, without fractions of a second.
#[must_use]
pub fn iso_date_after(now: SystemTime, lifetime: Duration) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    // The library does the calendar, in the fixed form of `Sun, 06 Nov 1994 08:49:37 GMT`.
    let date = http_date_after(now, lifetime).to_string();
    let mut words = date.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (day, month, year, time) = (word(), word(), word(), word());
    let month = MONTHS.find(month).map_or(0, |at| at / 3 + 1);
    format!("{year}-{month:02}-{day}T{time}Z")
}

/// The content type and body of an error answer: one line of text, or a problem document (RFC 9457) for
/// a client that asks for one.
#[must_use]
pub fn error_body(status: Status, text: &str, problem: bool) -> (&'static str, String) {
    #[derive(Serialize)]
    struct Problem<'t> {
        r#type: &'static str,
        title: &'static str,
        status: u16,
        detail: &'t str,
    }
    let document = Problem {
        r#type: "about:blank",
        title: status.reason(),
        status: status.code(),
        detail: text,
    };
    match serde_json::to_string(&document) {
        Ok(json) if problem => ("application/problem+json", json + "\n"),
        _ => ("text/plain; charset=utf-8", format!("{text}\n")),
    }
}

/// Whether `Accept` names this media type itself (no wildcard) and does not refuse it with `q=0`.
#[must_use]
pub fn accepts(accept: Option<&[u8]>, media_type: &str) -> bool {
    accept.unwrap_or_default().split(|&byte| byte == b',').any(|range| {
        let mut pieces = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let named = pieces.next().is_some_and(|it| it.eq_ignore_ascii_case(media_type.as_bytes()));
        named && !pieces.any(is_zero_weight)
    })
}

fn is_zero_weight(parameter: &[u8]) -> bool {
    let (name, value) = parameter.split_at(parameter.len().min(2));
    name.eq_ignore_ascii_case(b"q=") && value.iter().all(|byte| b"0.".contains(byte))
}

#[cfg(test)]
mod tests;
