//! The handshake: two clients with the same code get a common key, and each proves to the other that it has it.
//!
//! It is SPAKE2 on Ed25519, as the crate `spake2` and PyPI's library of the same name have it. A wrong password gives a
//! different key, and then the [proof](Agreed::proof) of either side is not what the other expects. A program between the
//! two, the relay too, can guess once: its guess is part of what it sends. Invariant: the key is used for nothing before
//! the peer's proof is checked.

use aws_lc_rs::hkdf::{self, HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use spake2::{Ed25519Group, Identity, Password, Spake2};
use zeroize::Zeroizing;

/// Bytes of a handshake message: the side's letter, and a point of the curve.
pub const MESSAGE_BYTES: usize = 33;
/// Bytes of a proof.
pub const PROOF_BYTES: usize = 32;
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// The two identities that go into the key, so that a handshake of another program, or of another version, fails.
const IDENTITIES: [&[u8]; 2] = [b"idontstore send 1", b"idontstore receive 1"];

/// The side of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It sends the file.
    Sender,
    /// It receives the file.
    Receiver,
}

impl Side {
    /// The other side.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }
}

/// A handshake that waits for the peer's message.
pub struct Handshake {
    side: Side,
    state: Spake2<Ed25519Group>,
    ours: Vec<u8>,
}

/// The peer's message is no message of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side's first message makes no sense")]
pub struct BadMessage;

/// The other side has another code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong code")]
pub struct WrongCode;

/// A key that the peer has not proven yet that it has.
pub struct Agreed {
    side: Side,
    key: Zeroizing<Vec<u8>>,
    transcript: Vec<u8>,
}

/// The keys of two clients that have proven their code to each other.
pub struct Keys {
    side: Side,
    key: Zeroizing<Vec<u8>>,
}

impl Handshake {
    /// Begins. Returns the message for the peer.
    #[must_use]
    pub fn start(side: Side, password: &str) -> (Self, Vec<u8>) {
        let password = Password::new(password.as_bytes());
        let [sender, receiver] = IDENTITIES.map(Identity::new);
        let (state, ours) = match side {
            Side::Sender => Spake2::<Ed25519Group>::start_a(&password, &sender, &receiver),
            Side::Receiver => Spake2::<Ed25519Group>::start_b(&password, &sender, &receiver),
        };
        (Self { side, state, ours: ours.clone() }, ours)
    }

    /// Takes the peer's message.
    pub fn finish(self, theirs: &[u8]) -> Result<Agreed, BadMessage> {
        let Self { side, state, ours } = self;
        let key = Zeroizing::new(state.finish(theirs).map_err(|_| BadMessage)?);
        let transcript = match side {
            Side::Sender => [&*ours, theirs].concat(),
            Side::Receiver => [theirs, &ours].concat(),
        };
        Ok(Agreed { side, key, transcript })
    }
}

impl Agreed {
    /// Our proof, for the peer.
    #[must_use]
    pub fn proof(&self) -> [u8; PROOF_BYTES] {
        let mut proof = [0; PROOF_BYTES];
        let tag = hmac::sign(&self.proof_key(self.side), &self.transcript);
        proof.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        proof
    }

    /// Checks the peer's proof.
    pub fn check(self, theirs: &[u8]) -> Result<Keys, WrongCode> {
        let key = self.proof_key(self.side.peer());
        hmac::verify(&key, &self.transcript, theirs).map_err(|_| WrongCode)?;
        Ok(Keys { side: self.side, key: self.key })
    }

    fn proof_key(&self, side: Side) -> hmac::Key {
        let key = derive(&self.key, &["proof of the ", side.label()]);
        hmac::Key::new(hmac::HMAC_SHA256, &*key)
    }
}

impl Keys {
    /// Our side.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// The key that `side` seals its letters with.
    #[must_use]
    pub fn letters(&self, side: Side) -> Zeroizing<[u8; KEY_BYTES]> {
        derive(&self.key, &["letters of the ", side.label()])
    }
}

/// The `Debug` forms hide everything but the side.
macro_rules! hides {
    ($($name:ident)+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("side", &self.side).finish_non_exhaustive()
            }
        }
    )+};
}

hides!(Handshake Agreed Keys);

struct OneKey;

impl KeyType for OneKey {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

fn derive(key: &[u8], purpose: &[&str]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut derived = Zeroizing::new([0; KEY_BYTES]);
    let salt = Salt::new(HKDF_SHA256, b"idontstore 1");
    let parts: Vec<&[u8]> = purpose.iter().map(|part| part.as_bytes()).collect();
    // Only a key of some other length is refused.
    let filled = salt
        .extract(key)
        .expand(&parts, OneKey)
        .and_then(|it: hkdf::Okm<'_, OneKey>| it.fill(&mut *derived));
    debug_assert!(filled.is_ok(), "HKDF gives 32 bytes");
    derived
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn agree(passwords: [&str; 2]) -> [Agreed; 2] {
        let (sender, of_sender) = Handshake::start(Side::Sender, passwords[0]);
        let (receiver, of_receiver) = Handshake::start(Side::Receiver, passwords[1]);
        assert_eq!((of_sender.len(), of_receiver.len()), (MESSAGE_BYTES, MESSAGE_BYTES));
        [sender.finish(&of_receiver).unwrap(), receiver.finish(&of_sender).unwrap()]
    }

    #[test]
    fn one_code_gives_one_key_to_both() {
        let [sender, receiver] = agree(["guitar-lemon"; 2]);
        let proofs = [sender.proof(), receiver.proof()];
        assert_ne!(proofs[0], proofs[1], "a proof cannot be sent back");
        let (sender, receiver) =
            (sender.check(&proofs[1]).unwrap(), receiver.check(&proofs[0]).unwrap());
        for side in [Side::Sender, Side::Receiver] {
            assert_eq!(sender.letters(side), receiver.letters(side));
        }
        assert_ne!(sender.letters(Side::Sender), sender.letters(Side::Receiver));
        let [again, _] = agree(["guitar-lemon"; 2]);
        assert_ne!(again.proof(), proofs[0], "each handshake has a key of its own");
    }

    #[test]
    fn another_code_is_seen_by_both() {
        let [sender, receiver] = agree(["guitar-lemon", "guitar-lemons"]);
        let proofs = [sender.proof(), receiver.proof()];
        assert_eq!(sender.check(&proofs[1]).unwrap_err(), WrongCode);
        assert_eq!(receiver.check(&proofs[0]).unwrap_err(), WrongCode);
    }

    #[test]
    fn what_is_no_proof_is_a_wrong_code() {
        for wrong in [&[][..], &[0; PROOF_BYTES], &[0; 31], &[0; 1000]] {
            let [sender, _] = agree(["guitar-lemon"; 2]);
            assert_eq!(sender.check(wrong).unwrap_err(), WrongCode);
        }
        let [sender, _] = agree(["guitar-lemon"; 2]);
        let own = sender.proof();
        assert_eq!(sender.check(&own).unwrap_err(), WrongCode, "our own, sent back");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let (_, own) = Handshake::start(Side::Sender, "guitar-lemon");
        let wrong_side = |mut it: Vec<u8>| {
            it[0] = b'S';
            it
        };
        for wrong in [Vec::new(), vec![0; 5], vec![0; 1000], own.clone(), wrong_side(own)] {
            let (handshake, _) = Handshake::start(Side::Sender, "guitar-lemon");
            assert!(handshake.finish(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let [sender, _] = agree(["guitar-lemon"; 2]);
        assert_eq!(format!("{sender:?}"), "Agreed { side: Sender, .. }");
    }
}
