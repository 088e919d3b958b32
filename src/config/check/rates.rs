//! The caps on bandwidth of the section `[limits]`.

use super::{Check, KIB, Key, NONE, TIB, size_within, sizes_allowed, typed};
use crate::config::Limits;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;

const RATES: RangeInclusive<u64> = RangeInclusive::new(KIB, TIB);

impl Check<'_> {
    /// A cap. `None` for none.
    pub(in crate::config) fn rate(&mut self, key: &Key<'_>) -> Option<NonZeroU64> {
        let allowed = format!("\"none\", or {} (a second)", sizes_allowed(&RATES));
        self.value(key, &allowed, |value| match value.as_str() {
            Some(NONE) => Some(None),
            _ => size_within(value, &RATES).map(NonZeroU64::new),
        })
    }

    /// A cap has to let a transfer be as fast as `rate_bytes_min` demands.
    pub(super) fn caps_suffice(&mut self, file: &typed::Limits, limits: &Limits) {
        let caps = [
            ("rate_bytes_max", &file.rate_bytes_max, limits.rate_bytes_max),
            (
                "rate_bytes_per_address_max",
                &file.rate_bytes_per_address_max,
                limits.rate_bytes_per_address_max,
            ),
        ];
        for (name, typed, cap) in caps {
            if cap.is_some_and(|cap| cap.get() < limits.rate_bytes_min) {
                let place = typed.as_ref().map(toml::Spanned::span).unwrap_or_default();
                let allowed = "allowed: rate_bytes_min, or more".to_owned();
                self.problem(format!("`{name}` below `rate_bytes_min`"), place, allowed);
            }
        }
    }
}
