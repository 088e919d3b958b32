//! The header of one part of a form.

use crate::http::{Fault, FileName, is_token_byte, is_value_byte, names_a_file};

/// The part that is relayed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilePart {
    /// What is left of its file name once that is harmless; possibly nothing.
    pub name: Option<FileName>,
    /// Its `Content-Type`, printable, if it has one.
    pub content_type: Option<Vec<u8>>,
}

/// The fields that matter, so far.
#[derive(Debug, Default)]
pub(super) struct PartHead {
    disposition: Option<Vec<u8>>,
    content_type: Option<Vec<u8>>,
}

impl PartHead {
    /// Takes one line, without its line end.
    pub(super) fn take_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let colon = memchr::memchr(b':', line).ok_or(Fault::PartHeadMalformed)?;
        let (name, value) = line.split_at_checked(colon).ok_or(Fault::PartHeadMalformed)?;
        let is_field = !name.is_empty()
            && name.iter().copied().all(is_token_byte)
            && value.iter().copied().all(is_value_byte);
        if !is_field {
            return Err(Fault::PartHeadMalformed);
        }
        let field = if name.eq_ignore_ascii_case(b"content-disposition") {
            &mut self.disposition
        } else if name.eq_ignore_ascii_case(b"content-type") {
            &mut self.content_type
        } else {
            return Ok(());
        };
        match field.replace(value.get(1..).unwrap_or_default().trim_ascii().to_vec()) {
            Some(_) => Err(Fault::PartHeadMalformed),
            None => Ok(()),
        }
    }

    /// Whether the part has a file name that is not empty.
    pub(super) fn is_file(&self) -> bool {
        self.disposition.as_deref().is_some_and(names_a_file)
    }

    pub(super) fn into_file(self) -> FilePart {
        let name = self.disposition.as_deref().and_then(FileName::from_disposition);
        FilePart { name, content_type: self.content_type.filter(|value| !value.is_empty()) }
    }
}
