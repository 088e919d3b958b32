//! Reads DER (X.690), as far as certificates and keys need it. Called by `certificate` and `credentials`; pure.
//!
//! Invariant: no read goes beyond the text, whatever its lengths say.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// The tag of field `n` of a structure: `CONTEXT + n`.
pub(super) const CONTEXT: u8 = 0xa0;

/// A DER value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'d> {
    pub(super) tag: u8,
    pub(super) content: &'d [u8],
    /// The content with what announces it.
    pub(super) whole: &'d [u8],
}

/// Values, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'d>(&'d [u8]);

impl<'d> Reader<'d> {
    pub(super) fn new(text: &'d [u8]) -> Self {
        Self(text)
    }

    /// The next value. `None` at the end, and for malformed DER.
    pub(super) fn next(&mut self) -> Option<Value<'d>> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (bytes, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            // How many bytes a length has: no file needs more than four.
            0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (length.iter().fold(0, |bytes, byte| bytes << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, behind) = rest.split_at_checked(bytes)?;
        let whole = self.0.get(..self.0.len() - behind.len())?;
        self.0 = behind;
        Some(Value { tag: *tag, content, whole })
    }

    /// The next value, which has to have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Value<'d>> {
        self.next().filter(|value| value.tag == tag)
    }

    /// The next value, if it has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<Value<'d>> {
        let mut ahead = *self;
        let value = ahead.expect(tag)?;
        *self = ahead;
        Some(value)
    }

    /// The values in the next one, which has to be a sequence.
    pub(super) fn sequence(&mut self) -> Option<Self> {
        self.expect(SEQUENCE).map(|value| value.inside())
    }
}

impl<'d> Value<'d> {
    /// The values in this one.
    pub(super) fn inside(&self) -> Reader<'d> {
        Reader(self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_each_other() {
        let mut reader = Reader::new(&[0x02, 0x01, 0x07, 0x30, 0x81, 0x02, 0x05, 0x00]);
        assert_eq!(reader.take(SEQUENCE), None);
        let number = Value { tag: INTEGER, content: &[7], whole: &[2, 1, 7] };
        assert_eq!(reader.take(INTEGER), Some(number));
        let mut inside = reader.sequence().map(|mut it| (it.next(), it.next()));
        let null = Value { tag: 5, content: &[], whole: &[5, 0] };
        assert_eq!(inside.take(), Some((Some(null), None)));
        assert_eq!(reader.next(), None);
    }

    #[test]
    fn what_says_more_than_there_is_is_nothing() {
        for text in [
            &[][..],
            &[0x30],
            &[0x30, 0x01],
            &[0x30, 0x80, 0x00, 0x00],
            &[0x30, 0x81],
            &[0x30, 0x82, 0x01],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00],
            &[0x30, 0x85, 0x00, 0x00, 0x00, 0x00, 0x00],
            &[0x30, 0xff, 0x00],
        ] {
            assert_eq!(Reader::new(text).next(), None, "{text:x?}");
        }
    }
}
