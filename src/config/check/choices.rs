//! Values that are one of a few words.

use crate::config::{AccessFormat, LogFormat, Receipt};
use tracing::Level;

/// A value that is typed as one of a few words.
pub(in crate::config) trait Choice: Copy + PartialEq + 'static {
    const CHOICES: &[(&'static str, Self)];
}

impl Choice for bool {
    const CHOICES: &[(&'static str, Self)] = &[("on", true), ("off", false)];
}

impl Choice for Receipt {
    const CHOICES: &[(&'static str, Self)] = &[("acked", Self::Acked), ("sent", Self::Sent)];
}

impl Choice for Level {
    const CHOICES: &[(&'static str, Self)] = &[
        ("error", Self::ERROR),
        ("warn", Self::WARN),
        ("info", Self::INFO),
        ("debug", Self::DEBUG),
        ("trace", Self::TRACE),
    ];
}

impl Choice for LogFormat {
    const CHOICES: &[(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Choice for AccessFormat {
    const CHOICES: &[(&'static str, Self)] = &[("combined", Self::Combined), ("json", Self::Json)];
}
