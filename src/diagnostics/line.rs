//! Writes an event as a line: for people, for the journal, or as JSON.
//!
//! Invariant: a line has less than 4 KiB, so that a pipe takes it whole or not at all. Values are escaped, so that
//! they stay within their line and tell nothing to a terminal. JSON stays JSON even if a value had to be cut.

use crate::sys::clock::LocalTime;
use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// The longest line, with its end. A pipe takes 4096 bytes in one piece (pipe(7)).
pub(super) const LINE_BYTES_MAX: usize = 4095;
/// Room that is kept for the end of a line.
const CLOSING_BYTES: usize = 8;
/// Indent of each further line of a message.
const INDENT: &str = "    ";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineFormat {
    /// The line begins with the time.
    Plain,
    /// For a terminal.
    Coloured,
    /// The line begins with a priority, and has no time, which the journal adds.
    Journal,
    Json,
}

/// Adds the line for `event`, which happened `now`.
pub(super) fn write(out: &mut String, event: &Event<'_>, format: LineFormat, now: &LocalTime) {
    let level = event.metadata().level();
    // A `String` takes all that is written to it.
    let _ = match format {
        LineFormat::Plain => write!(out, "{now} {level:>5} "),
        LineFormat::Coloured => {
            write!(out, "\x1b[2m{now}\x1b[0m \x1b[{}m{level:>5}\x1b[0m ", colour(level))
        }
        LineFormat::Journal => write!(out, "<{}>", priority(level)),
        LineFormat::Json => {
            let level = level.as_str().to_ascii_lowercase();
            write!(out, "{{\"time\":\"{now}\",\"level\":\"{level}\"")
        }
    };
    // The journal treats each line as a message of its own.
    let newline = match format {
        LineFormat::Journal => format!("\n<{}>{INDENT}", priority(level)),
        _ => format!("\n{INDENT}"),
    };
    event.record(&mut Values { out, is_json: format == LineFormat::Json, newline: &newline });
    out.push_str(if format == LineFormat::Json { "}\n" } else { "\n" });
}

/// As syslog(3) has them.
fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// As terminals have them.
fn colour(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        _ => 35,
    }
}

/// Writes an event's values as they come; the message is the first.
struct Values<'o> {
    out: &'o mut String,
    is_json: bool,
    /// The text that replaces a line end in a message.
    newline: &'o str,
}

impl Values<'_> {
    /// A value that is a word of ours: a number, true or false.
    fn plain(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.name(field) {
            let _ = self.out.write_fmt(value);
        }
    }

    /// Any other value.
    fn text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if !self.name(field) {
            return;
        }
        let quote = if self.is_json { "\"" } else { "" };
        self.out.push_str(quote);
        let newline = (field.name() == "message").then_some(self.newline);
        let mut escaped = Escaped { out: self.out, is_json: self.is_json, newline };
        let _ = escaped.write_fmt(value);
        self.out.push_str(quote);
    }

    /// Writes the text in front of a value; `false`: there is no room for it.
    fn name(&mut self, field: &Field) -> bool {
        let name = field.name();
        if self.out.len() + name.len() + 32 > LINE_BYTES_MAX - CLOSING_BYTES {
            return false;
        }
        let _ = match (self.is_json, name) {
            (true, _) => write!(self.out, ",\"{name}\":"),
            (false, "message") => Ok(()),
            (false, _) => write!(self.out, " {name}="),
        };
        true
    }
}

impl Visit for Values<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if self.is_json {
            self.text(field, format_args!("{value}"));
        } else {
            self.text(field, format_args!("{value:?}"));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, format_args!("{value}"));
    }
}

/// Lets the characters through that may stand in a line, as long as there is room.
struct Escaped<'o> {
    out: &'o mut String,
    is_json: bool,
    newline: Option<&'o str>,
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|it| self.write_char(it))
    }

    fn write_char(&mut self, it: char) -> fmt::Result {
        let mut room = [0; 4];
        let escaped;
        let piece: &str = match (it, self.newline) {
            ('"', _) if self.is_json => "\\\"",
            ('\\', _) if self.is_json => "\\\\",
            ('\n', Some(newline)) if !self.is_json => newline,
            _ if it.is_control() || is_separator(it) => {
                let code = u32::from(it);
                escaped = if self.is_json {
                    format!("\\u{code:04x}")
                } else {
                    format!("\\u{{{code:x}}}")
                };
                &escaped
            }
            _ => it.encode_utf8(&mut room),
        };
        if self.out.len() + piece.len() > LINE_BYTES_MAX - CLOSING_BYTES {
            return Err(fmt::Error);
        }
        self.out.push_str(piece);
        Ok(())
    }
}

/// Characters that some readers take for a line end, or for an order to write backwards.
fn is_separator(it: char) -> bool {
    matches!(it, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::clock;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    thread_local! {
        static WRITTEN: RefCell<String> = const { RefCell::new(String::new()) };
    }

    struct Catch(LineFormat);

    impl<S: tracing::Subscriber> Layer<S> for Catch {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            WRITTEN.with_borrow_mut(|out| write(out, event, self.0, &clock::local_time(0)));
        }
    }

    fn written(format: LineFormat, act: impl FnOnce()) -> String {
        let catch = tracing_subscriber::registry().with(Catch(format));
        tracing::subscriber::with_default(catch, act);
        WRITTEN.take()
    }

    #[test]
    fn an_event_has_its_time_level_message_and_values() {
        let act =
            || tracing::warn!(worker = 3, cause = "a \"b\"", up = true, error = %"no", "it died");
        let now = clock::local_time(0);
        let plain =
            format!("{now}  WARN it died worker=3 cause=\"a \\\"b\\\"\" up=true error=no\n");
        assert_eq!(written(LineFormat::Plain, act), plain);
        let journal = "<4>it died worker=3 cause=\"a \\\"b\\\"\" up=true error=no\n";
        assert_eq!(written(LineFormat::Journal, act), journal);
        assert!(written(LineFormat::Coloured, act).contains("\u{1b}[33m WARN"));
        let json: serde_json::Value =
            serde_json::from_str(&written(LineFormat::Json, act)).unwrap();
        let wanted = serde_json::json!({
            "time": now.to_string(), "level": "warn", "message": "it died",
            "worker": 3, "cause": "a \"b\"", "up": true, "error": "no",
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn every_line_of_a_message_has_a_priority_and_an_indent() {
        let act = || tracing::error!("one\ntwo");
        assert_eq!(written(LineFormat::Journal, act), "<3>one\n<3>    two\n");
        assert!(written(LineFormat::Plain, act).ends_with("ERROR one\n    two\n"));
        let json: serde_json::Value =
            serde_json::from_str(&written(LineFormat::Json, act)).unwrap();
        assert_eq!(json["message"], "one\ntwo");
    }

    proptest! {
        #[test]
        fn a_value_stays_within_its_line(text in "(?s).{0,3000}", twice in any::<bool>()) {
            let text = if twice { text.repeat(2) } else { text };
            for format in [LineFormat::Plain, LineFormat::Coloured, LineFormat::Journal, LineFormat::Json] {
                let line = written(format, || tracing::info!(peer = %text, why = text, "refused"));
                prop_assert!(line.len() <= LINE_BYTES_MAX, "{} bytes", line.len());
                prop_assert_eq!(line.matches('\n').count(), 1);
                prop_assert!(line.ends_with('\n'));
                let odd = line.chars().filter(|it| it.is_control() || is_separator(*it)).count();
                prop_assert_eq!(odd, if format == LineFormat::Coloured { 5 } else { 1 }, "{:?}", line);
                if format == LineFormat::Json {
                    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
                    prop_assert!(text.starts_with(json["peer"].as_str().unwrap()));
                }
            }
        }
    }
}
