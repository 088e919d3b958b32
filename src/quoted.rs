//! Quotes others' text in our messages: on one line, and without characters that a terminal obeys.

use std::fmt::{self, Write};

/// Displays the text in quotes, with quotes and terminal controls escaped.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'t>(pub &'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for it in self.0.chars() {
            match it {
                '"' | '\\' => write!(f, "\\{it}")?,
                it if it.is_control() => write!(f, "{}", it.escape_default())?,
                it => f.write_char(it)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        assert_eq!(Quoted("zwei ä").to_string(), "\"zwei ä\"");
        assert_eq!(Quoted("a\"b\\\n\u{1b}[2J").to_string(), r#""a\"b\\\n\u{1b}[2J""#);
    }
}
