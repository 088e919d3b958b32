//! What sessions mean: keys, tokens, and how they are issued and looked up.
//!
//! Called by the worker; knows the segment's slots but no request. Keys and tokens exist in text
//! only here and at the client's: shared memory holds their digests.

mod address;
mod key;

pub use address::{Addresses, Limited, network};
pub use key::{KEY_CHARS, SessionKey, Token};

use shm::{Found, Owner, Quota, Segment, SessionRef, Shared};
use subtle::ConstantTimeEq;

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
    /// When its lifetime is over, in milliseconds of the monotonic clock.
    pub expires_ms: u64,
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

/// Issues a session that lives until `expires_ms`, within the quota of the one that asks for it.
pub fn issue(
    segment: &Segment,
    owner: Owner,
    quota: Option<Quota>,
    now_ms: u64,
    expires_ms: u64,
) -> Result<Issued, IssueError> {
    let (shared, permits) = (segment.shared(), segment.permits());
    let Some(quota) = quota else { return draw(shared, owner, now_ms, expires_ms).map(|it| it.0) };
    // The permit is ours first: should we die now, it goes with us, and not with a session that nobody
    // was told of.
    let permit = permits.take(shared, quota, owner, now_ms).ok_or(IssueError::TooMany)?;
    let drawn = draw(shared, owner, now_ms, expires_ms);
    let passed_on = match &drawn {
        Ok((_, at)) => permits.hand_over(permit, *at),
        Err(_) => permits.give_back(permit),
    };
    if let Err(refusal) = passed_on {
        tracing::error!(%refusal, "a permit was lost: the table of permits is damaged");
    }
    drawn.map(|(issued, _)| issued)
}

fn draw(
    shared: &Shared<'_>,
    owner: Owner,
    now_ms: u64,
    expires_ms: u64,
) -> Result<(Issued, SessionRef), IssueError> {
    let secret = key::Secret::draw().ok_or(IssueError::NoRandom)?;
    let token = Token::draw().ok_or(IssueError::NoRandom)?;
    let digests = (&secret.digest(), &token.digest());
    let at =
        shared.issue(owner, digests.0, digests.1, now_ms, expires_ms).ok_or(IssueError::Full)?;
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
    let stored = found.as_ref().map_or(&nobody, |found| &found.key);
    let matches = bool::from(stored.ct_eq(&key.digest()));
    let Found { session: at, token, expires_ms, .. } = found?;
    (matches && expires_ms > now_ms).then_some(Session { at, expires_ms, token })
}

impl Session {
    /// Whether `token` is the one that was issued with the session.
    #[must_use]
    pub fn is_owned_by(&self, token: &[u8]) -> bool {
        Token::digest_of(token).ct_eq(&self.token).into()
    }
}
