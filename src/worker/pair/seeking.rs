//! The search for a place in a pair: the session that a client asks for, and a free half of it.
//!
//! A transit client brings the session's name, and whichever of the two comes first makes the session. A TLV receiver
//! brings the code of a session that its sender has made. Invariant: the mark of a party tells its spare connections
//! from its peer, and a client whose mark is not known yet is looked at again before anybody joins it.

use shm::{AddressTag, End, Name, NameError, Refusal, SessionRef, State, TakeError};
use std::net::IpAddr;

use crate::http::Status;
use crate::pair::transit;
use crate::relay::{Cx, Env, Half, HalfPlaces};
use crate::session::{self, IssueError, Kind, Naming, Session, SessionKey};
use crate::tally::Tally;
use crate::worker::issuing;
use crate::worker::sessions::{self, New};

/// The mark of a party that pairs with any other.
const NO_SIDE: AddressTag = AddressTag::of(1);
/// A spare connection looks again after this time though no bell rang.
const SPARE_LOOK_MS: u64 = 1000;
/// The longest pause before a name is asked for again that another worker was about to take.
const PAUSE_MS_MAX: u8 = 8;

/// The times that a session is issued to one client: a session without a party may end at any moment, as slots are short
/// or a worker has died.
const ISSUES_MAX: usize = 3;

/// The places that a client asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// A free half of the session with this name.
    Named { name: Name, side: Option<transit::Side> },
    /// The receiver's half of this session.
    Second(Session),
}

/// The result of one look.
#[derive(Debug)]
pub(super) enum Sought {
    /// A half is the client's.
    Found(Box<(Session, HalfPlaces)>),
    /// Look again in a moment, and no sooner than after this time.
    Soon { pause_ms: u64 },
    /// A connection of the same client waits: look again when that leaves, and at this time.
    Spare { session: SessionRef, look_ms: u64 },
    /// A connection of the same client is paired.
    Redundant,
    /// There is no place for the client.
    Refused(Refused),
}

/// Why a client is refused, as HTTP would say it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) status: Status,
    pub(super) text: &'static str,
}

impl From<(Status, &'static str)> for Refused {
    fn from((status, text): (Status, &'static str)) -> Self {
        Self { status, text }
    }
}

const TAKEN: Refused = Refused { status: Status::Conflict, text: "the pair has both its parties" };
pub(super) const OVER: Refused = Refused { status: Status::Gone, text: "the session is over" };
pub(super) const BUSY: Refused =
    Refused { status: Status::Unavailable, text: "the pair is changing hands: try again" };
pub(super) const DAMAGED: Refused =
    Refused { status: Status::InternalError, text: "the session is damaged" };

/// Issues the session that the sender of a TLV pair asks for, and takes its half.
pub(super) fn issue(
    cx: Cx<'_>,
    client: IpAddr,
) -> Result<(SessionKey, Session, HalfPlaces), Refused> {
    issuing::may_issue_untold(cx, client).map_err(Refused::from)?;
    for _ in 0..ISSUES_MAX {
        let issued = issue_as(cx, client, Naming::KeyAlone)
            .map_err(|error| Refused::from(sessions::not_issued(cx, error)))?;
        let Some((key, session)) = issued else { continue };
        let [first, _] = Half::ALL;
        match first.take(cx.env, session.at, NO_SIDE) {
            Ok(places) => return Ok((key, session, places)),
            Err(TakeError::Ended) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    Err(BUSY)
}

/// Issues a session. `None`: it is over already.
fn issue_as(
    cx: Cx<'_>,
    client: IpAddr,
    naming: Naming,
) -> Result<Option<(SessionKey, Session)>, IssueError> {
    let lifetime = cx.env.config.timeouts.session_lifetime;
    let issued = sessions::issue_to(cx, client, New { kind: Kind::Pair, lifetime, naming })?;
    let session = session::find(cx.env.shared(), &issued.key, cx.now_ms);
    Ok(session.map(|session| (issued.key, session)))
}

/// The session of a pair that `code` names, if it lives. An unknown code counts as a guess.
pub(super) fn find(cx: Cx<'_>, client: IpAddr, code: &str) -> Result<Session, Refused> {
    let found =
        SessionKey::parse(code).and_then(|key| session::find(cx.env.shared(), &key, cx.now_ms));
    if let Some(session) = found.filter(|session| session.kind == Kind::Pair) {
        return Ok(session);
    }
    sessions::count_guess(cx, client)?;
    Err(Refused { status: Status::NotFound, text: "no sender has this code" })
}

/// Looks for the places that the client wants.
pub(super) fn seek(cx: Cx<'_>, client: IpAddr, wanted: Wanted) -> Sought {
    let (sought, at) = match wanted {
        Wanted::Second(session) => (take_second(cx.env, session), session.at),
        Wanted::Named { name, side } => {
            let session = match named(cx, client, name) {
                Ok(session) => session,
                Err(sought) => return sought,
            };
            let mark =
                side.map_or(NO_SIDE, |side| cx.env.addresses.marked_guest(&side, session.at));
            (take_free(cx, session, mark), session.at)
        }
    };
    sought.unwrap_or_else(|refusal| {
        tracing::error!(%refusal, "a pair's session slot is damaged");
        // Its name must not lead here for ever.
        if cx.env.shared().end(at, End::Corrupt, |owner| cx.env.ring(owner, at.slot)) {
            cx.env.count(Tally::Ended(End::Corrupt));
        }
        Sought::Refused(DAMAGED)
    })
}

/// The session with this name, which is made if there is none.
fn named(cx: Cx<'_>, client: IpAddr, name: Name) -> Result<Session, Sought> {
    if let Some(session) = session::find_named(cx.env.segment, name, cx.now_ms) {
        return Ok(session);
    }
    issuing::may_issue_untold(cx, client).map_err(|why| Sought::Refused(why.into()))?;
    match issue_as(cx, client, Naming::Brought(name)) {
        Ok(Some((_, session))) => Ok(session),
        Ok(None) => Err(Sought::Soon { pause_ms: 0 }),
        Err(IssueError::Name(NameError::Taken(_))) => Err(Sought::Soon { pause_ms: 0 }),
        // Two that pause for the same time would meet again.
        Err(IssueError::Name(NameError::Contended)) => Err(Sought::Soon { pause_ms: random_ms() }),
        Err(error) => Err(Sought::Refused(sessions::not_issued(cx, error).into())),
    }
}

fn random_ms() -> u64 {
    let mut byte = [0];
    // Without random bytes the pause is the shortest.
    let _ = getrandom::fill(&mut byte);
    u64::from(1 + byte[0] % PAUSE_MS_MAX)
}

/// Takes the receiver's half of a TLV pair. Its sender must be there.
fn take_second(env: &Env, session: Session) -> Result<Sought, Refusal> {
    let [first, second] = Half::ALL;
    if first.holder(env, session.at)? != Some(State::Held) {
        return Ok(Sought::Refused(OVER));
    }
    Ok(match second.take(env, session.at, NO_SIDE) {
        Ok(places) => Sought::Found(Box::new((session, places))),
        Err(error) => Sought::Refused(refused(error)),
    })
}

fn refused(error: TakeError) -> Refused {
    match error {
        TakeError::Held | TakeError::Leaving => TAKEN,
        TakeError::Ended => OVER,
        TakeError::Refused(_) => DAMAGED,
    }
}

/// What a client with some mark finds at the two halves of a session.
enum Found {
    /// A half is free, and nobody of the client's own side has the other.
    Free(Half),
    /// A connection of the same client has one half, and the other is free.
    Own,
    /// A connection of the same client has one half, and its peer the other.
    OwnPaired,
    /// Others have both.
    Others,
    /// A party has only come or is about to leave.
    Changing,
}

fn look(env: &Env, at: SessionRef, mark: AddressTag) -> Result<Found, Refusal> {
    let (mut free, mut has_own, mut are_paired) = (None, false, true);
    for half in Half::ALL {
        are_paired &= half.has_begun(env, at)?;
        match half.holder(env, at)? {
            Some(State::Empty) => free = free.or(Some(half)),
            Some(State::Held) => match half.mark(env, at)? {
                None => return Ok(Found::Changing),
                Some(holder) => has_own |= holder == mark && mark != NO_SIDE,
            },
            _ => return Ok(Found::Changing),
        }
    }
    Ok(match (free, has_own) {
        (Some(half), false) => Found::Free(half),
        (Some(_), true) => Found::Own,
        // Before they are paired, a party may turn out to have left.
        (None, _) if !are_paired => Found::Changing,
        (None, true) => Found::OwnPaired,
        (None, false) => Found::Others,
    })
}

/// Takes a free half of `session`, unless a connection of the same client has the other.
fn take_free(cx: Cx<'_>, session: Session, mark: AddressTag) -> Result<Sought, Refusal> {
    let (env, at) = (cx.env, session.at);
    let half = match look(env, at, mark)? {
        Found::Free(half) => half,
        Found::Own => {
            Half::ALL.into_iter().try_for_each(|half| half.register_waiter(env, at))?;
            // A holder that left before rings for nobody.
            return Ok(match look(env, at, mark)? {
                Found::Own => {
                    let look_ms = cx.now_ms.saturating_add(SPARE_LOOK_MS);
                    Sought::Spare { session: at, look_ms }
                }
                _ => Sought::Soon { pause_ms: 0 },
            });
        }
        Found::OwnPaired => return Ok(Sought::Redundant),
        Found::Others => return Ok(Sought::Refused(TAKEN)),
        Found::Changing => return Ok(Sought::Soon { pause_ms: 0 }),
    };
    let places = match half.take(env, at, mark) {
        Ok(places) => places,
        Err(TakeError::Refused(refusal)) => return Err(refusal),
        Err(_) => return Ok(Sought::Soon { pause_ms: 0 }),
    };
    // Another connection of the same client may have taken the other half meanwhile, after a death there.
    if mark != NO_SIDE && half.other().mark(env, at)? == Some(mark) {
        places.leave(env)?;
        return Ok(Sought::Soon { pause_ms: random_ms() });
    }
    Ok(Sought::Found(Box::new((session, places))))
}
