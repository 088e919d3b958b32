//! A text of a configuration: the file, a variable, an argument.

/// A text, and its name in errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) origin: String,
    pub(super) text: String,
}
