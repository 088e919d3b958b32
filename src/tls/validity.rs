//! A certificate's validity (RFC 5280, section 4.1.2.5), and the warning about it. Read by `certificate`; the
//! configuration warns by it, and the admin listener tells it. Pure.

use super::der::{Reader, Value};
use httpdate::fmt_http_date;
use std::time::{Duration, SystemTime};

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const DAY_S: u64 = 24 * 3600;
/// How long before its end a certificate is warned of, unless it lives for less than three times as long: renewal
/// usually comes 30 days before the end, or after two thirds of a short life.
const WARNING_SPAN: Duration = Duration::from_secs(14 * DAY_S);

/// The time in which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub begins: SystemTime,
    /// The last second.
    pub ends: SystemTime,
}

impl Validity {
    /// `None`: the certificate does not say, or says what clients do not understand.
    pub(super) fn read(mut fields: Reader<'_>) -> Option<Self> {
        Some(Self { begins: time(fields.next()?)?, ends: time(fields.next()?)? })
    }

    /// The warning about it `now`, if there is one.
    #[must_use]
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let ends = fmt_http_date(self.ends);
        let life = self.ends.duration_since(self.begins).unwrap_or_default();
        let Ok(left) = self.ends.duration_since(now) else {
            return Some(format!("has expired: it was good until {ends}"));
        };
        if now < self.begins {
            let begins = fmt_http_date(self.begins);
            return Some(format!("is not good yet: it is from {begins} on"));
        }
        let days = left.as_secs() / DAY_S;
        let plural = if days == 1 { "" } else { "s" };
        (left < WARNING_SPAN.min(life / 3))
            .then(|| format!("expires in {days} day{plural}: it is good until {ends}"))
    }
}

/// `YYMMDDHHMMSSZ` up to 2049, `YYYYMMDDHHMMSSZ` from then on. A time before 1970 counts as its first moment.
fn time(value: Value<'_>) -> Option<SystemTime> {
    let text = str::from_utf8(value.content).ok()?.strip_suffix('Z')?;
    let year_digits = match value.tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    let is_whole = text.len() == year_digits + 10 && text.bytes().all(|it| it.is_ascii_digit());
    let (year, rest) = text.split_at_checked(year_digits).filter(|_| is_whole)?;
    let year = match (year.parse::<u64>().ok()?, value.tag) {
        (year @ 0..50, UTC_TIME) => 2000 + year,
        (year, UTC_TIME) => 1900 + year,
        (year, _) => year,
    };
    let pair = |index: usize| rest.get(2 * index..2 * index + 2)?.parse::<u64>().ok();
    let [month, day, hour, minute, second] = [pair(0)?, pair(1)?, pair(2)?, pair(3)?, pair(4)?];
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_1970(year, month, day).unwrap_or(0);
    let seconds = days * DAY_S + hour * 3600 + minute * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Counts days as if each year began with March, so that the day of the leap comes last. `None` before 1970.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    /// Days since the first of March of the year 0.
    const TO_1970: u64 = 719_468;
    let year = year.checked_sub(u64::from(month <= 2))?;
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leaps = year / 4 - year / 100 + year / 400;
    (year * 365 + leaps + day_of_year).checked_sub(TO_1970)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(tag: u8, text: &str) -> Option<u64> {
        let time = time(Value { tag, content: text.as_bytes(), whole: &[] })?;
        Some(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn both_forms_of_a_date_are_read() {
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(read(UTC_TIME, "261128221514Z"), Some(1_795_904_114));
        assert_eq!(read(UTC_TIME, "240229235959Z"), Some(1_709_251_199));
        assert_eq!(read(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(read(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        assert_eq!(read(UTC_TIME, "500101000000Z"), Some(0), "before 1970");
        assert_eq!(read(GENERALIZED_TIME, "00000101000000Z"), Some(0));
    }

    #[test]
    fn what_is_no_date_is_not_read() {
        for text in ["", "Z", "2611282215Z", "261128221514", "261328221514Z", "2611282215+4Z"] {
            assert_eq!(read(UTC_TIME, text), None, "{text}");
        }
        assert_eq!(read(GENERALIZED_TIME, "261128221514Z"), None);
        assert_eq!(read(UTC_TIME, "20261128221514Z"), None);
        assert_eq!(read(0x02, "261128221514Z"), None);
    }

    #[test]
    fn only_an_end_that_is_near_is_warned_of() {
        let at = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * DAY_S);
        let warning =
            |begins, ends, now| Validity { begins: at(begins), ends: at(ends) }.warning(at(now));
        assert_eq!(warning(100, 190, 150), None);
        assert_eq!(warning(100, 190, 176), None, "fourteen days");
        let soon = warning(100, 190, 177).unwrap();
        assert_eq!(soon, "expires in 13 days: it is good until Fri, 10 Jul 1970 00:00:00 GMT");
        assert!(warning(100, 190, 189).unwrap().starts_with("expires in 1 day:"));
        assert!(warning(100, 190, 191).unwrap().starts_with("has expired"));
        assert!(warning(100, 190, 99).unwrap().starts_with("is not good yet"));
        assert_eq!(warning(100, 106, 104), None, "a short life has a short span");
        assert!(warning(100, 106, 105).unwrap().starts_with("expires in 1 day:"));
    }
}
