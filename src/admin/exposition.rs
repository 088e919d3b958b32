//! The two text formats of metrics: OpenMetrics 1.0, and the older one of Prometheus (0.0.4). Chooses the format that a
//! request asks for, and makes the second from the first.
//!
//! Differences: OpenMetrics names a family without the suffix of its samples, has units and a type `info`, and marks
//! its end. The older format names a family as its samples, and has none of that.

use std::collections::HashMap;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Prometheus,
}

/// The highest weight of a format, in thousandths (RFC 9110, section 12.4.2).
const WEIGHT_MAX: u16 = 1000;

/// Whether `content_type` depends on `Accept`.
pub(super) fn is_negotiated(content_type: &str) -> bool {
    [Format::OpenMetrics, Format::Prometheus].iter().any(|it| it.content_type() == content_type)
}

impl Format {
    /// The format that a request prefers by `accept`, all its fields of that name. OpenMetrics has to be named: a wildcard
    /// gets the older format.
    pub(super) fn wanted<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut newer, mut older) = (0, None);
        for range in accept.flat_map(|field| field.split(|byte| *byte == b',')) {
            let mut pieces = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = pieces.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<_> = pieces.filter_map(parameter).collect();
            let weight = weight(&parameters);
            let is_version = |known: &[&[u8]]| {
                let asked = parameters.iter().find(|(name, _)| name == b"version");
                asked.is_none_or(|(_, version)| known.contains(version))
            };
            match name.as_slice() {
                b"application/openmetrics-text" if is_version(&[b"1.0.0", b"0.0.1"]) => {
                    newer = weight.max(newer);
                }
                b"text/plain" if is_version(&[b"0.0.4", b"1.0.0"]) => {
                    older = Some(weight.max(older.unwrap_or(0)))
                }
                _ => {}
            }
        }
        if newer > 0 && newer >= older.unwrap_or(0) { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts `text`, which is OpenMetrics, to this format.
    pub(super) fn written(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Prometheus => to_prometheus(&text),
        }
    }
}

fn parameter(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (text.get(..equals)?, text.get(equals + 1..)?.trim_ascii());
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some((name.trim_ascii().to_ascii_lowercase(), bare.unwrap_or(value)))
}

/// `q`, in thousandths: the highest if it is missing or malformed.
fn weight(parameters: &[(Vec<u8>, &[u8])]) -> u16 {
    let given = parameters.iter().find(|(name, _)| name == b"q");
    let parsed = given.and_then(|(_, text)| {
        let (whole, part) = match text.iter().position(|byte| *byte == b'.') {
            Some(dot) => (text.get(..dot)?, text.get(dot + 1..)?),
            None => (*text, [].as_slice()),
        };
        let digit = |place: usize| {
            part.get(place)
                .map_or(Some(0), |byte| byte.is_ascii_digit().then(|| u16::from(byte - b'0')))
        };
        let thousandths = digit(0)? * 100 + digit(1)? * 10 + digit(2)?;
        match whole {
            b"0" => Some(thousandths),
            _ => None,
        }
    });
    parsed.unwrap_or(WEIGHT_MAX)
}

/// The suffix of a family's samples, by its type.
fn suffix(kind: &str) -> &'static str {
    match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    }
}

fn to_prometheus(text: &str) -> String {
    let said = |line: &'_ str, what: &str| -> Option<(String, String)> {
        let (name, rest) = line.strip_prefix("# ")?.strip_prefix(what)?.split_once(' ')?;
        Some((name.to_owned(), rest.to_owned()))
    };
    // A family's help comes before its type.
    let kinds: HashMap<_, _> = text.lines().filter_map(|line| said(line, "TYPE ")).collect();
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for line in text.lines() {
        let full = |name: &str| {
            let kind = kinds.get(name).map_or("", String::as_str);
            format!("{name}{}", suffix(kind))
        };
        let written = if let Some((name, help)) = said(line, "HELP ") {
            // Here a quote stands for itself.
            format!("# HELP {} {}", full(&name), help.replace("\\\"", "\""))
        } else if let Some((name, kind)) = said(line, "TYPE ") {
            let kind = if kind == "info" { "gauge" } else { kind.as_str() };
            format!("# TYPE {} {kind}", full(&name))
        } else if line.starts_with('#') {
            // A unit, which the name has at its end, or the mark at the end of the text.
            continue;
        } else {
            line.to_owned()
        };
        out.push_str(&written);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(fields: &[&str]) -> Format {
        Format::wanted(fields.iter().map(|field| field.as_bytes()))
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it_and_nobody_else() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            application/openmetrics-text;version=0.0.1;q=0.4,\
                            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for accept in [
            prometheus_2,
            prometheus_3,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8",
            "text/plain;q=0.5, application/openmetrics-text;q=0.500",
            "text/plain;q=0, application/openmetrics-text;q=0.001",
        ] {
            assert_eq!(wanted(&[accept]), Format::OpenMetrics, "{accept}");
        }
        let prometheus_1 = "text/plain;version=0.0.4;q=1,*/*;q=0.1";
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            prometheus_1,
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.000",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0.2,text/plain;version=0.0.4;q=0.9",
            "application/*",
            ";;;,=,q=",
        ] {
            assert_eq!(wanted(&[accept]), Format::Prometheus, "{accept}");
        }
        assert_eq!(wanted(&[]), Format::Prometheus);
        assert_eq!(
            wanted(&["text/plain;q=0.1", "application/openmetrics-text"]),
            Format::OpenMetrics
        );
    }

    #[test]
    fn the_older_format_has_names_as_its_samples_and_neither_unit_nor_end() {
        let openmetrics = "\
            # HELP a_requests Requests \\\"so far\\\".\n\
            # TYPE a_requests counter\n\
            a_requests_total 3\n\
            # HELP a_sent_bytes Bytes.\n\
            # TYPE a_sent_bytes counter\n\
            # UNIT a_sent_bytes bytes\n\
            a_sent_bytes_total{to=\"b\"} 7\n\
            # HELP a_open Open now.\n\
            # TYPE a_open gauge\n\
            a_open 1\n\
            # HELP a_build The program.\n\
            # TYPE a_build info\n\
            a_build_info{version=\"1\"} 1\n\
            # EOF\n";
        let prometheus = "\
            # HELP a_requests_total Requests \"so far\".\n\
            # TYPE a_requests_total counter\n\
            a_requests_total 3\n\
            # HELP a_sent_bytes_total Bytes.\n\
            # TYPE a_sent_bytes_total counter\n\
            a_sent_bytes_total{to=\"b\"} 7\n\
            # HELP a_open Open now.\n\
            # TYPE a_open gauge\n\
            a_open 1\n\
            # HELP a_build_info The program.\n\
            # TYPE a_build_info gauge\n\
            a_build_info{version=\"1\"} 1\n";
        assert_eq!(Format::Prometheus.written(openmetrics.to_owned()), prometheus);
        assert_eq!(Format::OpenMetrics.written(openmetrics.to_owned()), openmetrics);
    }
}
