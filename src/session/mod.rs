//! Sessions: keys, tokens and nameplates, and how a session is issued and looked up.
//!
//! The worker calls this; this knows the segment's slots but no request. Keys and tokens exist as text only here and at the
//! clients: shared memory holds their digests.

mod address;
mod file_tag;
mod hash;
mod issue_tokens;
mod key;
mod nameplate;

pub use address::{Addresses, Limited, network, wide_network};
pub use file_tag::{FileIdentity, FileTag};
pub use hash::SessionHash;
pub use issue_tokens::{IssueTokens, IssueTokensError, IssueTokensFlaw};
pub use key::{KEY_CHARS, SessionKey, Token};
pub use nameplate::Nameplate;

use shm::{
    Account, AddressTag, End, Found, Life, Name, NameError, Named, Owner, Past, Quotas, Segment,
    SessionRef, Shared, SlotView, Terms,
};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// The purpose of a session: a key works only with the API that issued it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The two-step exchange.
    Exchange,
    /// Messages between a host and any client that knows the key.
    Basic,
    /// Messages between a host and the address that it names.
    Secure,
    /// Messages between a host and its first guest, who may come by a nameplate.
    Nameplate,
    /// A pair.
    Pair,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Exchange, Self::Basic, Self::Secure, Self::Nameplate, Self::Pair];

    /// The name that people read.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Basic => "basic",
            Self::Secure => "secure",
            Self::Nameplate => "nameplate",
            Self::Pair => "pair",
        }
    }

    fn to_word(self) -> u64 {
        match self {
            Self::Exchange => 1,
            Self::Basic => 2,
            Self::Secure => 3,
            Self::Nameplate => 4,
            Self::Pair => 5,
        }
    }

    /// Whether it is a session of the message relay.
    #[must_use]
    pub fn is_of_messages(self) -> bool {
        matches!(self, Self::Basic | Self::Secure | Self::Nameplate)
    }

    /// The kind that a slot's word says; `None` for a word that names no kind.
    #[must_use]
    pub fn from_word(word: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_word() == word)
    }
}

/// A session that was just issued: what the safe-conduct says.
#[derive(Debug)]
pub struct Issued {
    /// Where it lives.
    pub at: SessionRef,
    /// The session key, for both parties.
    pub key: SessionKey,
    /// The token, for the party that asked.
    pub token: Token,
    /// The nameplate, if one was asked for.
    pub nameplate: Option<Nameplate>,
}

/// A session that a key named.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Where it lives.
    pub at: SessionRef,
    /// The purpose of the session.
    pub kind: Kind,
    /// The time that it lives, from its issue or from its last finished message.
    pub lifetime: Duration,
    /// The guest that is authorized to use it: a digest for this session alone; 0: no guest was named.
    pub guest: Option<AddressTag>,
    key: shm::Digest,
    token: shm::Digest,
}

/// Why no session was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueError {
    /// The client that asked has as many sessions as it may.
    TooMany,
    /// Every slot is in use.
    Full,
    /// Every nameplate that was drawn is in use.
    NoNameplate,
    /// The name that the client brought is in use, will be in a moment, or finds no room.
    Name(NameError),
    /// The kernel gave no random bytes.
    NoRandom,
}

/// The session that a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct NewSession {
    /// The purpose of the session.
    pub kind: Kind,
    /// The time that it lives, from its issue or from its last finished message.
    pub lifetime: Duration,
    /// How many sessions its client, and the client's network, may have.
    pub quotas: Quotas,
    /// The account that pays for the session.
    pub account: Account,
    /// The session's name beside its key.
    pub naming: Naming,
}

/// The name of a session beside its key.
#[derive(Clone, Copy, Debug)]
pub enum Naming {
    /// It has none.
    KeyAlone,
    /// A nameplate that the relay draws. The session lives for this time without a guest.
    Nameplate(Duration),
    /// A name that both parties bring.
    Brought(Name),
}

/// Issues a session, within the quotas of the client that asks for it.
pub fn issue(
    segment: &Segment,
    addresses: &Addresses,
    owner: Owner,
    new: &NewSession,
    now_ms: u64,
) -> Result<Issued, IssueError> {
    let (shared, permits) = (segment.shared(), segment.permits());
    // This worker takes the permits first. If it dies now, the sweep frees them, and no session is left that nobody was
    // told of.
    let held = permits.take_each(shared, new.quotas, owner, now_ms).ok_or(IssueError::TooMany)?;
    let drawn = draw(segment, addresses, owner, new, now_ms);
    let passed_on = match &drawn {
        Ok(issued) => permits.give_each_to(held, issued.at),
        Err(_) => permits.give_back_each(held),
    };
    if let Err(refusal) = passed_on {
        tracing::error!(%refusal, "a permit was lost: the table of permits is damaged");
    }
    drawn
}

fn draw(
    segment: &Segment,
    addresses: &Addresses,
    owner: Owner,
    new: &NewSession,
    now_ms: u64,
) -> Result<Issued, IssueError> {
    let secret = key::Secret::draw().ok_or(IssueError::NoRandom)?;
    let token = Token::draw().ok_or(IssueError::NoRandom)?;
    let terms = Terms {
        key: secret.digest(),
        token: token.digest(),
        kind: new.kind.to_word(),
        lifetime_ms: millis(new.lifetime),
        account: Some(new.account),
    };
    let issue_under = |name, first: Duration| {
        let named = Named { name, terms: &terms, first_ms: millis(first) };
        segment.directory().issue(segment.shared(), owner, &named, now_ms)
    };
    let (at, nameplate) = match new.naming {
        Naming::KeyAlone => {
            (segment.shared().issue(owner, &terms, now_ms).ok_or(IssueError::Full)?, None)
        }
        Naming::Nameplate(first) => {
            let drawn = draw_nameplate(addresses, |name| issue_under(name, first));
            drawn.map(|(at, nameplate)| (at, Some(nameplate)))?
        }
        Naming::Brought(name) => match issue_under(name, new.lifetime) {
            Ok(at) => (at, None),
            Err(NameError::NoSlot) => return Err(IssueError::Full),
            Err(error) => return Err(IssueError::Name(error)),
        },
    };
    Ok(Issued { at, key: SessionKey::new(at.slot, secret), token, nameplate })
}

/// Draws nameplates until `issue` gets a session under the name of one.
fn draw_nameplate(
    addresses: &Addresses,
    issue: impl Fn(Name) -> Result<SessionRef, NameError>,
) -> Result<(SessionRef, Nameplate), IssueError> {
    for drawn in Nameplate::draws() {
        let nameplate = drawn.ok_or(IssueError::NoRandom)?;
        match issue(nameplate.name(addresses)) {
            Ok(at) => return Ok((at, nameplate)),
            Err(NameError::NoSlot) => return Err(IssueError::Full),
            Err(NameError::Taken(_) | NameError::Contended | NameError::NoPlace) => {}
        }
    }
    Err(IssueError::NoNameplate)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The session that `key` names, if it lives: one bounded load and one comparison of digests.
///
/// A key that was never issued, a key whose slot serves another session and a dead key are told apart neither by the
/// answer nor by the work that leads to it.
#[must_use]
pub fn find(shared: &Shared<'_>, key: &SessionKey, now_ms: u64) -> Option<Session> {
    let found = shared.find(key.slot());
    let nobody = [0; 32];
    let stored = found.as_ref().map_or(&nobody, |found| &found.terms.key);
    let matches = bool::from(stored.ct_eq(&key.digest()));
    living(shared, &found?, now_ms).filter(|_| matches)
}

/// The session that has `name`, if it lives.
#[must_use]
pub fn find_named(segment: &Segment, name: Name, now_ms: u64) -> Option<Session> {
    let found = segment.directory().find(segment.shared(), name)?;
    living(segment.shared(), &found, now_ms)
}

fn living(shared: &Shared<'_>, found: &Found, now_ms: u64) -> Option<Session> {
    let &Found { session: at, ref terms, guest, expires_ms } = found;
    let kind = Kind::from_word(terms.kind)?;
    let lifetime = Duration::from_millis(terms.lifetime_ms);
    let session = Session { at, kind, lifetime, guest, key: terms.key, token: terms.token };
    // A session does not end at its lifetime's end while something is transferred in it.
    let lives = expires_ms > now_ms || shared.is_running(at) == Ok(true);
    lives.then_some(session)
}

/// The exchange that `key` named, if it is complete, its slot serves no other session yet, and its
/// lifetime would not be over.
#[must_use]
pub fn find_past(shared: &Shared<'_>, key: &SessionKey, now_ms: u64) -> Option<Past> {
    let found = shared.find_past(key.slot());
    let nobody = [0; 32];
    let stored = found.as_ref().map_or(&nobody, |found| &found.key);
    let matches = bool::from(stored.ct_eq(&key.digest()));
    let past = found?;
    let is_exchange = Kind::from_word(past.kind) == Some(Kind::Exchange);
    (matches && is_exchange && past.expires_ms > now_ms).then_some(past)
}

/// Ends the living session with this `hash`, as its owner does by `DELETE`, and calls `ring` with its slot and the owner of
/// each held place. Returns whether there was one. It looks at all slots.
pub fn end_hashed(segment: &Segment, hash: SessionHash, mut ring: impl FnMut(u32, Owner)) -> bool {
    let (shared, secret) = (segment.shared(), segment.secret());
    let is_it =
        |slot: &SlotView| slot.life == Life::Live && SessionHash::new(&secret, &slot.key) == hash;
    let Some(found) = shared.slots().find(is_it) else { return false };
    shared.end(found.session, End::Deleted, |owner| ring(found.session.slot, owner))
}

/// Ends the pairs whose last party was a dead worker's, and counts them. A pair that is being issued at this very moment
/// may end as well: its issuer comes again.
pub fn end_abandoned(segment: &Segment) -> usize {
    let shared = segment.shared();
    let is_vacant = |slot: &SlotView| {
        slot.lanes.iter().all(|lane| lane.is_some_and(|lane| lane.word.is_vacant()))
    };
    let is_it = |slot: &SlotView| {
        slot.life == Life::Live && Kind::from_word(slot.kind) == Some(Kind::Pair) && is_vacant(slot)
    };
    let abandoned = shared.slots().filter(is_it);
    abandoned.filter(|slot| shared.end(slot.session, End::Left, |_| {})).count()
}

impl Session {
    /// The session's short hash.
    #[must_use]
    pub fn hash(&self, secret: &[u8; blake3::KEY_LEN]) -> SessionHash {
        SessionHash::new(secret, &self.key)
    }

    /// Whether `token` was issued with the session.
    #[must_use]
    pub fn is_owned_by(&self, token: &[u8]) -> bool {
        Token::digest_of(token).ct_eq(&self.token).into()
    }
}
