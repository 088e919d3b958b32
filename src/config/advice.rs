//! Guesses the value that was meant by a value that is refused. Asked by `check` for each bad value; pure.
//!
//! Invariant: a proposed value is allowed for that key.

use super::unit::{duration_text, size_text};
use std::time::Duration;
use toml::Value;

/// Names of sizes that people write, in small letters: the unit here, and its bytes.
const SIZES: [(&[&str], &str, f64); 5] = [
    (&["b", "byte", "bytes"], "B", 1.0),
    (&["k", "kb", "kib", "ki"], "KiB", 1024.0),
    (&["m", "mb", "mib", "mi"], "MiB", 1_048_576.0),
    (&["g", "gb", "gib", "gi"], "GiB", 1_073_741_824.0),
    (&["t", "tb", "tib", "ti"], "TiB", 1_099_511_627_776.0),
];
/// The same of durations, in milliseconds.
const DURATIONS: [(&[&str], f64); 6] = [
    (&["ms", "msec", "millis", "millisecond", "milliseconds"], 1.0),
    (&["s", "sec", "secs", "second", "seconds"], 1_000.0),
    (&["m", "min", "mins", "minute", "minutes"], 60_000.0),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000.0),
    (&["d", "day", "days"], 86_400_000.0),
    (&["w", "week", "weeks"], 604_800_000.0),
];
/// The largest number that may be written as a fraction: up to it every whole number is exact.
const EXACT_MAX: f64 = 9e15;

const POWERS: &str = "units are powers of 1024";
const TIMES: &str = "units are ms, s, m and h, with a whole number";
const BARE: &str = "without quotes";

/// A line of help, if one of the values that may have been meant `is_allowed`.
pub(super) fn help(typed: &Value, is_allowed: impl Fn(&Value) -> bool) -> Option<String> {
    let (meant, why) = meant(typed).into_iter().find(|(value, _)| is_allowed(value))?;
    Some(if why.is_empty() { format!("write {meant}") } else { format!("write {meant}: {why}") })
}

/// The values that may have been meant, likeliest first, each with a remark.
fn meant(typed: &Value) -> Vec<(Value, &'static str)> {
    let mut meant = Vec::new();
    match typed {
        Value::String(text) => {
            let plain = text.trim().to_ascii_lowercase();
            meant.push((Value::from(plain.as_str()), ""));
            meant.extend(size(&plain).map(|it| (it, POWERS)));
            meant.extend(duration(&plain).map(|it| (it, TIMES)));
            meant.extend(number(&plain).map(|it| (Value::from(it), BARE)));
            let switch = match plain.as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            };
            meant.extend(switch.map(|it| (Value::from(it), BARE)));
            meant.extend(switch.map(|it| (Value::from(if it { "on" } else { "off" }), "")));
        }
        Value::Boolean(it) => {
            meant.push((Value::from(if *it { "on" } else { "off" }), "it is text, in quotes"));
        }
        Value::Integer(it) => {
            meant.push((Value::from(it.to_string()), "it is text, in quotes"));
        }
        Value::Float(it) => {
            meant.extend(whole(*it).map(|it| (Value::from(it), "it is a whole number")));
            let millis = whole(*it * 1_000.0).and_then(|it| u64::try_from(it).ok());
            let text = millis.map(|it| duration_text(Duration::from_millis(it)));
            meant.extend(text.map(|it| (Value::from(it), TIMES)));
        }
        _ => {}
    }
    meant
}

/// A number with separators, or in thousands and millions.
fn number(text: &str) -> Option<i64> {
    let bare: String = text.chars().filter(|it| !"_,' ".contains(*it)).collect();
    let (digits, factor) = match bare.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => bare.strip_suffix('m').map_or((bare.as_str(), 1), |digits| (digits, 1_000_000)),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<i64>().ok().filter(|_| is_number)?.checked_mul(factor)
}

fn size(text: &str) -> Option<Value> {
    let (number, unit) = split(text)?;
    let (_, unit, bytes) = SIZES.iter().find(|(names, ..)| names.contains(&unit))?;
    if let Some(whole) = whole(number) {
        return Some(Value::from(format!("{whole}{unit}")));
    }
    let bytes = u64::try_from(whole(number * bytes)?).ok()?;
    Some(Value::from(size_text(bytes)))
}

/// Parses one or more pieces, as in `1h30m`.
fn duration(text: &str) -> Option<Value> {
    let (mut left, mut millis) = (text, 0.0);
    while !left.is_empty() {
        let is_unit = |it: char| it.is_ascii_alphabetic();
        let unit_at = left.find(is_unit)?;
        let end =
            left.get(unit_at..)?.find(|it| !is_unit(it)).map_or(left.len(), |it| unit_at + it);
        let (number, unit) = split(left.get(..end)?)?;
        let (_, factor) = DURATIONS.iter().find(|(names, _)| names.contains(&unit))?;
        millis += number * factor;
        left = left.get(end..)?.trim_start();
    }
    let millis = u64::try_from(whole(millis)?).ok().filter(|it| *it > 0)?;
    Some(Value::from(duration_text(Duration::from_millis(millis))))
}

/// The number and what stands behind it.
fn split(text: &str) -> Option<(f64, &str)> {
    let unit_at = text.find(|it: char| it.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let number = number.trim();
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    Some((number.parse().ok().filter(|_| is_number)?, unit.trim()))
}

/// The number, if it is whole and exact.
#[allow(clippy::cast_possible_truncation, reason = "it is within the range, and whole")]
fn whole(number: f64) -> Option<i64> {
    let is_whole = (0.0..=EXACT_MAX).contains(&number) && number.fract() == 0.0;
    is_whole.then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[track_caller]
    fn assert_help(text: &str, help: &str) {
        let report = parse(text, "test.toml").map_or_else(|it| it.to_string(), |_| String::new());
        assert!(report.contains(&format!("help: write {help}")), "{help} is missing in:\n{report}");
    }

    #[test]
    fn sizes_are_set_right() {
        for (typed, help) in [
            ("\"5GB\"", "\"5GiB\": units are powers of 1024"),
            ("\"10 MB\"", "\"10MiB\""),
            ("\"100k\"", "\"100KiB\""),
            ("\"1.5gib\"", "\"1536MiB\""),
            ("\"512 bytes\"", "\"512B\""),
            ("\"5000\"", "5000: without quotes"),
            ("7000.0", "7000: it is a whole number"),
        ] {
            assert_help(&format!("limits.body_bytes_max = {typed}\n"), help);
        }
    }

    #[test]
    fn durations_are_set_right() {
        for (typed, help) in [
            ("\"5 minutes\"", "\"5m\": units are ms, s, m and h"),
            ("\"1d\"", "\"24h\""),
            ("\"1h30m\"", "\"90m\""),
            ("\"1.5s\"", "\"1500ms\""),
            ("30.5", "\"30500ms\""),
            ("\"30\"", "30: without quotes"),
            ("\"10S\"", "\"10s\""),
        ] {
            assert_help(&format!("timeouts.wait_timeout = {typed}\n"), help);
        }
    }

    #[test]
    fn numbers_and_switches_are_set_right() {
        for (text, help) in [
            ("workers = \"4\"\n", "4: without quotes"),
            ("workers = \"Auto\"\n", "\"auto\""),
            ("workers = 4.0\n", "4: it is a whole number"),
            ("limits.connections_max = \"10,000\"\n", "10000: without quotes"),
            ("limits.connections_max = \"100k\"\n", "100000: without quotes"),
            ("sandbox = true\n", "\"on\": it is text"),
            ("sandbox = \"no\"\n", "\"off\""),
            ("[[listener]]\naddress = \"127.0.0.1:1\"\nproxy_protocol = \"false\"\n", "false"),
            ("log.level = \"WARN\"\n", "\"warn\""),
            ("admin.mode = 660\n", "\"660\": it is text"),
        ] {
            assert_help(text, help);
        }
    }

    #[test]
    fn nothing_is_proposed_that_is_not_allowed() {
        for text in [
            "limits.head_bytes_max = \"5GB\"\n",
            "timeouts.wait_timeout = \"40d\"\n",
            "workers = \"many\"\n",
            "workers = \"500\"\n",
            "timeouts.wait_timeout = \"\"\n",
            "timeouts.wait_timeout = 1e300\n",
            "timeouts.wait_timeout = nan\n",
            "limits.body_bytes_max = \"99999999999999999999GB\"\n",
        ] {
            let report =
                parse(text, "test.toml").map_or_else(|it| it.to_string(), |_| String::new());
            assert!(report.contains("bad value") && !report.contains("help"), "{report}");
        }
    }
}
