//! What sessions mean: keys, tokens, and how they are issued and looked up.
//!
//! Called by the worker; knows the segment's slots but no request. Keys and tokens exist in text
//! only here and at the client's: shared memory holds their digests.

mod address;
mod hash;
mod issue_tokens;
mod key;

pub use address::{Addresses, Limited, network, wide_network};
pub use hash::SessionHash;
pub use issue_tokens::{IssueTokens, IssueTokensError, IssueTokensFlaw};
pub use key::{KEY_CHARS, SessionKey, Token};

use shm::{Account, Found, Owner, Quotas, Segment, SessionRef, Shared, Terms};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// What a session is for: a key works only where it was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The two-step exchange.
    Exchange,
    /// Messages between a host and whoever knows the key.
    Basic,
    /// Messages between a host and the address that it names.
    Secure,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Exchange, Self::Basic, Self::Secure];

    /// What it is called where people read it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Basic => "basic",
            Self::Secure => "secure",
        }
    }

    fn to_word(self) -> u64 {
        match self {
            Self::Exchange => 1,
            Self::Basic => 2,
            Self::Secure => 3,
        }
    }

    /// The kind that a slot's word says; `None` for a word that says nothing.
    #[must_use]
    pub fn from_word(word: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_word() == word)
    }
}

/// A session that was just issued: what the safe-conduct says.
#[derive(Debug)]
pub struct Issued {
    /// The session key, for both parties.
    pub key: SessionKey,
    /// The token, for the one that asked.
    pub token: Token,
}

/// A session that a key named.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Where it lives.
    pub at: SessionRef,
    /// What it is for.
    pub kind: Kind,
    /// How long it lives from its issue, or from its last finished message.
    pub lifetime: Duration,
    /// Who else may use it: a digest that is good for this session alone; 0: nobody was named.
    pub guest: u64,
    token: shm::Digest,
}

/// Why no session was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueError {
    /// The one that asked has as many sessions as it may.
    TooMany,
    /// Every slot is in use.
    Full,
    /// The kernel gave no random bytes.
    NoRandom,
}

/// Issues a session that lives for `lifetime`, within the quota of the one that asks for it.
pub fn issue(
    segment: &Segment,
    owner: Owner,
    quotas: Quotas,
    account: Account,
    kind: Kind,
    lifetime: Duration,
    now_ms: u64,
) -> Result<Issued, IssueError> {
    let (shared, permits) = (segment.shared(), segment.permits());
    // The permits are ours first: should we die now, they go with us, and not with a session that nobody
    // was told of.
    let held = permits.take_each(shared, quotas, owner, now_ms).ok_or(IssueError::TooMany)?;
    let drawn = draw(shared, owner, account, kind, lifetime, now_ms);
    let passed_on = match &drawn {
        Ok((_, at)) => permits.hand_over_each(held, *at),
        Err(_) => permits.give_back_each(held),
    };
    if let Err(refusal) = passed_on {
        tracing::error!(%refusal, "a permit was lost: the table of permits is damaged");
    }
    drawn.map(|(issued, _)| issued)
}

fn draw(
    shared: &Shared<'_>,
    owner: Owner,
    account: Account,
    kind: Kind,
    lifetime: Duration,
    now_ms: u64,
) -> Result<(Issued, SessionRef), IssueError> {
    let secret = key::Secret::draw().ok_or(IssueError::NoRandom)?;
    let token = Token::draw().ok_or(IssueError::NoRandom)?;
    let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
    let (key, kind) = (secret.digest(), kind.to_word());
    let terms = Terms { key, token: token.digest(), kind, lifetime_ms, account: Some(account) };
    let at = shared.issue(owner, &terms, now_ms).ok_or(IssueError::Full)?;
    Ok((Issued { key: SessionKey::new(at.slot, secret), token }, at))
}

/// The session that `key` names, if it lives: one bounded load and one comparison of digests.
///
/// A key that was never issued, one whose slot serves another session and one that is dead are told
/// apart neither by the answer nor by what is computed on the way.
#[must_use]
pub fn find(shared: &Shared<'_>, key: &SessionKey, now_ms: u64) -> Option<Session> {
    let found = shared.find(key.slot());
    let nobody = [0; 32];
    let stored = found.as_ref().map_or(&nobody, |found| &found.terms.key);
    let matches = bool::from(stored.ct_eq(&key.digest()));
    let Found { session: at, terms, guest, expires_ms } = found?;
    let kind = Kind::from_word(terms.kind)?;
    let lifetime = Duration::from_millis(terms.lifetime_ms);
    let session = Session { at, kind, lifetime, guest, token: terms.token };
    // Whatever its lifetime, a session is not over while something is transferred in it.
    let lives = || expires_ms > now_ms || shared.is_running(at) == Ok(true);
    (matches && lives()).then_some(session)
}

impl Session {
    /// Whether `token` is the one that was issued with the session.
    #[must_use]
    pub fn is_owned_by(&self, token: &[u8]) -> bool {
        Token::digest_of(token).ct_eq(&self.token).into()
    }
}
