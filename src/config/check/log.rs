//! The section `[log]`: its choices and its path.

use super::super::{AccessFormat, Log, LogFormat};
use super::{Check, Key, typed};

/// `PATH_MAX` has 4096, with the zero (path_resolution(7)).
const FILE_PATH_BYTES_MAX: usize = 4095;

const LOG_LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];
const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
const ACCESS_FORMATS: [(&str, AccessFormat); 2] =
    [("combined", AccessFormat::Combined), ("json", AccessFormat::Json)];

impl Check<'_> {
    pub(super) fn log(&mut self, file: &typed::Log, default: &typed::Log) -> Log {
        Log {
            level: self.choice(&key!(file, default, level), &LOG_LEVELS),
            format: self.choice(&key!(file, default, format), &LOG_FORMATS),
            access: self.path_or_none(&key!(file, default, access), FILE_PATH_BYTES_MAX),
            access_format: self.choice(&key!(file, default, access_format), &ACCESS_FORMATS),
        }
    }
}
