//! The caps on bandwidth of the section `[limits]`.

use super::{Check, KIB, Key, NONE, TIB, size_within, sizes_allowed};
use std::num::NonZeroU64;
use std::ops::RangeInclusive;

const RATES: RangeInclusive<u64> = RangeInclusive::new(KIB, TIB);

impl Check<'_> {
    /// A cap, which has to let a transfer be as fast as it has to be. `None` for none.
    pub(super) fn rate(&mut self, key: &Key<'_>, rate_bytes_min: u64) -> Option<NonZeroU64> {
        let allowed = format!("\"none\", or {} (a second)", sizes_allowed(&RATES));
        let rate = self.value(key, &allowed, |value| match value.as_str() {
            Some(NONE) => Some(None),
            _ => size_within(value, &RATES).map(NonZeroU64::new),
        });
        if rate.is_some_and(|rate| rate.get() < rate_bytes_min) {
            let title = format!("`{}` below `rate_bytes_min`", key.name);
            let allowed = "allowed: as much as the slowest transfer that is let go on, or more";
            self.fault(title, key.span().unwrap_or_default(), allowed.to_owned());
        }
        rate
    }
}
