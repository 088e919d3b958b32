//! Sizes and durations as people type them, and back. Called by `check` for what was typed and by `dump` for what is
//! in force.
//!
//! Invariant: what `size_text` and `duration_text` write, `size` and `duration` read back as the same value.

use std::time::Duration;

/// Units of a size, largest first: name and bytes.
const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Units of a duration, largest first: name and milliseconds.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes of a text such as `64KiB`; `None` if it is no such text or beyond 64 bits.
pub(super) fn size(text: &str) -> Option<u64> {
    scaled(text, &SIZE_UNITS)
}

/// Duration of a text such as `250ms`; `None` if it is no such text or beyond 64 bits of milliseconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    scaled(text, &DURATION_UNITS).map(Duration::from_millis)
}

/// `bytes` in the largest unit that divides it.
pub(super) fn size_text(bytes: u64) -> String {
    in_largest_unit(bytes, &SIZE_UNITS, "0B")
}

/// `duration` in the largest unit that divides it; below a millisecond nothing is kept, as nothing can be typed there.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    in_largest_unit(millis, &DURATION_UNITS, "0s")
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(digits_end)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

fn in_largest_unit(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return zero.to_owned();
    }
    units
        .iter()
        .find(|(_, factor)| value.is_multiple_of(*factor))
        .map_or_else(|| value.to_string(), |(name, factor)| format!("{}{name}", value / factor))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_unit() {
        assert_eq!(size("512B"), Some(512));
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("3MiB"), Some(3 << 20));
        assert_eq!(size("1GiB"), Some(1 << 30));
        assert_eq!(size("1TiB"), Some(1 << 40));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Some(Duration::from_secs(3_600)));
    }

    #[test]
    fn refuses_what_only_looks_like_one() {
        for text in
            ["", "B", "12", "-1B", "+1B", "1 KiB", "1kib", "1KB", "1.5MiB", "0x10B", "16777216TiB"]
        {
            assert_eq!(size(text), None, "{text:?}");
        }
        for text in ["", "s", "10", "-1s", "1 s", "1h30m", "1d", "1.5s", "5124095576031h"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_size_survives_the_round_trip(bytes in any::<u64>(), shift in 0_u32..64) {
            let bytes = (bytes >> shift) << (shift / 2);
            prop_assert_eq!(size(&size_text(bytes)), Some(bytes));
        }

        #[test]
        fn a_duration_survives_the_round_trip(millis in any::<u64>(), shift in 0_u32..64) {
            let duration_in = Duration::from_millis(millis >> shift);
            prop_assert_eq!(duration(&duration_text(duration_in)), Some(duration_in));
        }
    }
}
