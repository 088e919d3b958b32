//! The types of messages: their numbers, who says them, and how long their values are.
//!
//! The parser and the encoder of `tlv` read this table. Invariant: no two types share a number, and a
//! client's type is no byte that HTTP or TLS begins with.

use core::fmt;
use core::ops::RangeInclusive;

use super::VALUE_BYTES_MAX;

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MessageType {
    RegisterSender,
    RegisterReceiver,
    Code,
    Waiting,
    Paired,
    Error,
}

/// The bit that the relay's types have and the clients' have not.
const FROM_RELAY: u8 = 0x80;

impl MessageType {
    const ALL: [Self; 6] = [
        Self::RegisterSender,
        Self::RegisterReceiver,
        Self::Code,
        Self::Waiting,
        Self::Paired,
        Self::Error,
    ];

    /// The type that has this number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The first byte of such a message.
    ///
    /// A line feed (10) may stand before a request, and a TLS record may begin with 20. Neither could be a type
    /// on a port that HTTP shares.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::RegisterSender => 0x01,
            Self::RegisterReceiver => 0x02,
            Self::Code => 0x81,
            Self::Waiting => 0x82,
            Self::Paired => 0x83,
            Self::Error => 0x84,
        }
    }

    /// Whether a client says it. The relay says the others.
    #[must_use]
    pub fn is_request(self) -> bool {
        self.number() & FROM_RELAY == 0
    }

    /// The lengths that its value may have. `CODE` begins with four bytes of lifetime, `ERROR` with two of
    /// status. No code is empty.
    pub(super) fn value_bytes(self) -> RangeInclusive<usize> {
        match self {
            Self::RegisterSender | Self::Waiting | Self::Paired => 0..=0,
            Self::RegisterReceiver => 1..=VALUE_BYTES_MAX,
            Self::Code => 5..=VALUE_BYTES_MAX,
            Self::Error => 2..=VALUE_BYTES_MAX,
        }
    }
}

/// The name, as documents write it.
impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RegisterSender => "REGISTER_SENDER",
            Self::RegisterReceiver => "REGISTER_RECEIVER",
            Self::Code => "CODE",
            Self::Waiting => "WAITING",
            Self::Paired => "PAIRED",
            Self::Error => "ERROR",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_types() {
        let types = (0..=u8::MAX).filter_map(MessageType::of);
        assert_eq!(types.collect::<Vec<_>>(), MessageType::ALL);
        for kind in MessageType::ALL {
            assert_eq!(MessageType::of(kind.number()), Some(kind));
        }
    }

    #[test]
    fn a_client_registers_and_the_relay_says_the_rest() {
        let requests = MessageType::ALL.into_iter().filter(|kind| kind.is_request());
        let names: Vec<_> = requests.map(|kind| kind.to_string()).collect();
        assert_eq!(names, ["REGISTER_SENDER", "REGISTER_RECEIVER"]);
    }
}
