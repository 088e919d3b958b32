//! The directory: finds a session by a name, beside its key. No two living sessions have one name.
//!
//! A name's keyed digest chooses a set of [`WAYS`] words. A word says which session has the name, and part of the digest;
//! the session's slot has the rest. The session's life says how far its word counts: while the slot is being filled the
//! word is *tentative*, once the session lives it is *confirmed*, and once it is over the word is void and free to take.
//! So nobody removes a word, and a worker that dies with a tentative word leaves a void one after its sweep.
//!
//! A session that wants a name is filled, enters its word, and only then looks at the whole set. It gives way to a
//! confirmed word of its name. Of two tentative words the one in the lower place stays: its worker ends the other's
//! session, and the other's worker gives up by itself. The session then goes to life by one compare-and-swap on its life
//! word, which fails if another worker has ended it. Of two workers with one name at least one sees the other's word, as
//! each enters its own before it looks, so two are never confirmed.

use crate::ids::{Owner, SessionRef};
use crate::name::{Name, session_in};
use crate::sessions::{Filling, Found};
use crate::shared::Shared;
use crate::slot::{Filled, Life, Terms};
use crate::sync::{AtomicU64, Ordering, fence, look};

/// Words of a set. A name has its word in one of them.
pub(crate) const WAYS: usize = 16;

/// The word of no session. Zeroed memory is an empty directory.
const VOID: u64 = 0;

/// Why no session was issued under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// This session has the name.
    Taken(SessionRef),
    /// Another worker is issuing a session under the name. Whether it succeeds is soon known: a worker that hangs
    /// meanwhile keeps the name until the master ends it.
    Contended,
    /// The name's set is full of other names.
    NoPlace,
    /// All session slots that were looked at are in use.
    NoSlot,
}

/// A session in its slot, with a tentative word.
#[derive(Debug)]
#[must_use = "a tentative session is confirmed or given up"]
pub struct Tentative {
    filling: Filling,
    name: Name,
    place: usize,
}

/// The directory's words, borrowed from the segment (or from the heap, in tests).
#[derive(Clone, Copy, Debug)]
pub struct Directory<'a> {
    sets: &'a [[AtomicU64; WAYS]],
}

impl<'a> Directory<'a> {
    /// A directory over `words`. It uses the largest power of two of sets.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Self {
        let (sets, _) = words.as_chunks::<WAYS>();
        let used = sets.len().checked_ilog2().map_or(0, |bits| 1 << bits);
        Self { sets: sets.get(..used).unwrap_or_default() }
    }

    /// The session with this name, if one lives. The search looks at one set.
    #[must_use]
    pub fn find(&self, shared: &Shared<'_>, name: Name) -> Option<Found> {
        let mut words = self.set(name).iter().map(look);
        words.find_map(|word| match shared.judge(word, name) {
            Claim::Confirmed(session) => shared.find_session(session),
            _ => None,
        })
    }

    /// Issues a session under `name`, as [`Shared::issue`] issues one without. Its lifetime begins with `first_ms`, and
    /// only a renewal makes it the one of `terms`.
    pub fn issue(
        &self,
        shared: &Shared<'_>,
        owner: Owner,
        named: &Named<'_>,
        now_ms: u64,
    ) -> Result<SessionRef, NameError> {
        let tentative = self.enter(shared, owner, named, now_ms)?;
        self.confirm(shared, tentative)
    }

    /// The first half of [`Self::issue`]: fills a slot and enters its word, unless a session with the name lives. Tests
    /// stop a worker between the halves.
    pub fn enter(
        &self,
        shared: &Shared<'_>,
        owner: Owner,
        named: &Named<'_>,
        now_ms: u64,
    ) -> Result<Tentative, NameError> {
        let set = self.set(named.name);
        let mut has_room = false;
        for word in set.iter().map(look) {
            if word != VOID {
                shared.reclaim(session_in(word).slot, owner, now_ms);
            }
            if let Claim::Confirmed(session) = shared.judge(word, named.name) {
                return Err(NameError::Taken(session));
            }
            has_room |= is_void(shared, word);
        }
        // Filling a slot may cost another network a session.
        if !has_room {
            return Err(NameError::NoPlace);
        }
        let Named { name, terms, first_ms } = *named;
        let expires_ms = now_ms.saturating_add(first_ms.min(terms.lifetime_ms));
        let filled = Filled { terms, name: Some(name), expires_ms };
        let filling = shared.find_room(owner, &filled, now_ms).ok_or(NameError::NoSlot)?;
        let ours = name.word(filling.session);
        let takes = |word: &AtomicU64| {
            let found = look(word);
            let (ok, no) = (Ordering::SeqCst, Ordering::SeqCst);
            is_void(shared, found) && word.compare_exchange(found, ours, ok, no).is_ok()
        };
        match set.iter().position(takes) {
            Some(place) => Ok(Tentative { filling, name, place }),
            None => {
                shared.give_up(filling.session);
                Err(NameError::NoPlace)
            }
        }
    }

    /// The second half of [`Self::issue`]: looks at the whole set, and confirms the word or gives the session up.
    pub fn confirm(
        &self,
        shared: &Shared<'_>,
        tentative: Tentative,
    ) -> Result<SessionRef, NameError> {
        let Tentative { filling, name, place } = tentative;
        let others = self.set(name).iter().enumerate().filter(|(index, _)| *index != place);
        for (index, word) in others {
            let found = look(word);
            let mut claim = shared.judge(found, name);
            if let Claim::Tentative(session) = claim
                && index > place
            {
                shared.give_up(session);
                // It may have been confirmed before.
                claim = shared.judge(found, name);
            }
            let error = match claim {
                Claim::Void => continue,
                Claim::Tentative(_) => NameError::Contended,
                Claim::Confirmed(session) => NameError::Taken(session),
            };
            shared.give_up(filling.session);
            return Err(error);
        }
        shared.open(filling).ok_or(NameError::Contended)
    }

    fn set(&self, name: Name) -> &'a [AtomicU64] {
        let mask = (self.sets.len() as u64).wrapping_sub(1);
        let index = usize::try_from(name.set & mask).unwrap_or(0);
        self.sets.get(index).map_or(&[], |set| set.as_slice())
    }
}

/// A session that is wanted under a name.
#[derive(Clone, Copy, Debug)]
pub struct Named<'t> {
    /// The name.
    pub name: Name,
    /// The terms of the session.
    pub terms: &'t Terms,
    /// The time that it lives if it is never renewed, in milliseconds.
    pub first_ms: u64,
}

/// What a word says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// Nothing: it is another name's, or its session is over.
    Void,
    /// A session is being issued under the name.
    Tentative(SessionRef),
    /// The session lives.
    Confirmed(SessionRef),
}

impl Shared<'_> {
    fn judge(&self, word: u64, name: Name) -> Claim {
        let session = session_in(word);
        if word != name.word(session) {
            return Claim::Void;
        }
        // The life is read after the name: if the name is the next session's, so is the life.
        let has_name = self.slot(session.slot).is_ok_and(|slot| slot.has_name(name));
        // Pairs with the fence in `fill`.
        fence(Ordering::Acquire);
        match self.life(session) {
            Ok(Some(Life::Filling(_))) if has_name => Claim::Tentative(session),
            Ok(Some(Life::Live)) if has_name => Claim::Confirmed(session),
            _ => Claim::Void,
        }
    }
}

/// Whether the session of a word is over, so that the word is free to take.
fn is_void(shared: &Shared<'_>, word: u64) -> bool {
    let lives = || matches!(shared.life(session_in(word)), Ok(Some(Life::Filling(_) | Life::Live)));
    word == VOID || !lives()
}
