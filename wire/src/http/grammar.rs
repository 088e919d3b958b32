//! The bytes of tokens and field values (RFC 9110, sections 5.5 and 5.6.2).
//!
//! All parsers of this crate use these two rules.

/// Whether this is a byte of a token (RFC 9110, section 5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether this is a byte of a field value: visible, space, tab, or above ASCII (RFC 9110, section 5.5).
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}
