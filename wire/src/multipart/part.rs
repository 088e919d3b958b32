//! The header of one part of a form.

use crate::http::{Fault, FileName, is_media_type, is_token_byte, names_a_file};

/// The part that is relayed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilePart {
    /// The part of its file name that is harmless; possibly nothing.
    pub name: Option<FileName>,
    /// The part's `Content-Type`, if that is a media type.
    pub content_type: Option<Vec<u8>>,
}

/// The fields that matter, so far.
#[derive(Debug, Default)]
pub(super) struct PartHead {
    disposition: Option<Vec<u8>>,
    content_type: Option<Vec<u8>>,
    /// The field that the last line belonged to.
    last: Option<Field>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Field {
    Disposition,
    ContentType,
    Other,
}

impl PartHead {
    /// Takes one line, without its line end. A line that begins with white space continues the line
    /// before it, as mail programs fold them (RFC 5322, section 2.2.3).
    ///
    /// A value may have control characters: file names have them, and lose them later. A bare CR is
    /// refused, because another reader may take it for a line end.
    pub(super) fn take_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if line.contains(&b'\r') {
            return Err(Fault::PartHeadMalformed);
        }
        if let [b' ' | b'\t', ..] = line {
            return self.unfold(line);
        }
        let colon = memchr::memchr(b':', line).ok_or(Fault::PartHeadMalformed)?;
        let (name, value) = line.split_at_checked(colon).ok_or(Fault::PartHeadMalformed)?;
        if name.is_empty() || !name.iter().copied().all(is_token_byte) {
            return Err(Fault::PartHeadMalformed);
        }
        let field = if name.eq_ignore_ascii_case(b"content-disposition") {
            Field::Disposition
        } else if name.eq_ignore_ascii_case(b"content-type") {
            Field::ContentType
        } else {
            Field::Other
        };
        self.last = Some(field);
        let Some(kept) = self.kept(field) else { return Ok(()) };
        match kept.replace(value.get(1..).unwrap_or_default().trim_ascii().to_vec()) {
            Some(_) => Err(Fault::PartHeadMalformed),
            None => Ok(()),
        }
    }

    fn unfold(&mut self, line: &[u8]) -> Result<(), Fault> {
        let last = self.last.ok_or(Fault::PartHeadMalformed)?;
        if let Some(Some(value)) = self.kept(last) {
            value.extend_from_slice(line.trim_ascii_end());
        }
        Ok(())
    }

    fn kept(&mut self, field: Field) -> Option<&mut Option<Vec<u8>>> {
        match field {
            Field::Disposition => Some(&mut self.disposition),
            Field::ContentType => Some(&mut self.content_type),
            Field::Other => None,
        }
    }

    /// Whether the part has a file name that is not empty.
    pub(super) fn is_file(&self) -> bool {
        self.disposition.as_deref().is_some_and(names_a_file)
    }

    pub(super) fn into_file(self) -> FilePart {
        let name = self.disposition.as_deref().and_then(FileName::from_disposition);
        let content_type = self.content_type.as_deref().map(<[u8]>::trim_ascii);
        let content_type = content_type.filter(|it| is_media_type(it)).map(<[u8]>::to_vec);
        FilePart { name, content_type }
    }
}
