//! The wait of a party for its peer: until when, and what sends it away before that. Pure, except for the few lines
//! that read the words of shared memory.
//!
//! `sending`, `receiving` and `pair` ask at each turn. A rival is answered only after the kernel was asked once more whether
//! our client has left. A transfer that has begun never ends for a rival.

use shm::{AddressTag, End, LaneEnd, Life, Refusal};

use super::{Cx, Env, LOOK_ANYWAY_MS};
use crate::tally::Tally;

/// The next step of a party that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The party waits, and has a turn at this time at the latest.
    Until(u64),
    /// The party's wait is over.
    NobodyCame,
    /// The session's lifetime is over, and with it the session.
    Expired,
}

/// Judges at `now_ms` a party that waits until `ends_ms`, in a session that lives until `expires_ms`. `expire` ends
/// that session and returns whether it lives on: a session in which something is transferred does.
fn wait(
    ends_ms: u64,
    expires_ms: u64,
    now_ms: u64,
    expire: impl FnOnce() -> Result<bool, Refusal>,
) -> Result<Wait, Refusal> {
    let look_ms = if now_ms < expires_ms {
        expires_ms
    } else if expire()? {
        now_ms.saturating_add(LOOK_ANYWAY_MS)
    } else {
        return Ok(Wait::Expired);
    };
    Ok(if now_ms >= ends_ms { Wait::NobodyCame } else { Wait::Until(ends_ms.min(look_ms)) })
}

/// Whether a client that was authorized as `guest` may not use a session any more, whose host has authorized `authorized`
/// by now. `None` as guest: the session is for everybody.
fn is_forbidden(guest: Option<AddressTag>, authorized: Option<AddressTag>) -> bool {
    guest.is_some() && authorized != guest
}

/// The rival for its place that a party has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RivalWatch {
    /// The rival that the turn before found.
    seen: Option<AddressTag>,
}

/// The verdict of a turn on rivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    /// There is no rival, or it was told no.
    Answered,
    /// The rival came since the turn before. Our client may have left after the kernel was asked last and before the
    /// rival came, so the next turn answers it.
    New,
    /// This rival must be told no.
    Refuse(AddressTag),
}

impl RivalWatch {
    /// Judges that `rival` wants the place, if any does.
    fn judge(&mut self, rival: Option<AddressTag>) -> Rival {
        let seen = std::mem::replace(&mut self.seen, rival);
        match rival {
            None => Rival::Answered,
            Some(_) if seen != rival => Rival::New,
            Some(rival) => {
                self.seen = None;
                Rival::Refuse(rival)
            }
        }
    }

    /// Whether a rival was found since this watch was `before`, and is still to be answered.
    pub(super) fn has_found_since(self, before: Self) -> bool {
        self.seen.is_some() && self != before
    }

    /// Tells a rival no that the turn before found. `false`: one is to be answered by the next turn.
    pub(super) fn answer<E: LaneEnd>(
        &mut self,
        env: &Env,
        end: &E,
        rival: Option<AddressTag>,
    ) -> Result<bool, Refusal> {
        match self.judge(rival) {
            Rival::Answered => Ok(true),
            Rival::New => Ok(false),
            Rival::Refuse(rival) => {
                env.shared().clear_rival(end.lane(), E::ROLE, rival)?;
                env.ring_waiters(end.lane());
                Ok(true)
            }
        }
    }
}

/// How a sender waits.
#[derive(Debug)]
pub(super) struct SenderWait {
    /// When its wait is over.
    pub(super) ends_ms: u64,
    /// A turn has found it without a receiver.
    pub(super) was_seen: bool,
    /// The sender waits once more, though some of its body was read.
    pub(super) is_again: bool,
    pub(super) rivals: RivalWatch,
}

impl SenderWait {
    pub(super) fn new(ends_ms: u64) -> Self {
        Self { ends_ms, was_seen: false, is_again: false, rivals: RivalWatch::default() }
    }

    /// The sender waits for another receiver, after one was lost.
    pub(super) fn begin_again(&mut self) {
        (self.was_seen, self.is_again) = (false, true);
    }

    /// Whether a client whose FIN has come (`is_leaving`) has left. A sender whose whole body was read for a receiver that
    /// was lost may have said all it will say.
    pub(super) fn has_left(&self, is_leaving: bool, has_read_all: bool) -> bool {
        is_leaving && !(self.is_again && has_read_all)
    }

    /// The same at the beginning of a turn. In a sender's first turn a FIN may only mean that it has sent its whole
    /// request. Once a turn has found it waiting, a FIN means that it left.
    pub(super) fn left_while_waiting(&self, is_leaving: bool, has_read_all: bool) -> bool {
        self.was_seen && self.has_left(is_leaving, has_read_all)
    }
}

/// Whether the client of a sender that waits may be gone without our knowing: its FIN would stand behind bytes that find
/// no room, as nothing is read before a receiver comes. `here` of the `unread` bytes of its body have come.
pub(super) fn may_be_dead(is_backed_up: bool, here: u64, unread: Option<u64>) -> bool {
    is_backed_up && unread.is_none_or(|unread| here < unread)
}

impl Env {
    /// The rival that wants `end`'s place from its holder, if any does.
    pub(super) fn rival<E: LaneEnd>(&self, end: &E) -> Result<Option<AddressTag>, Refusal> {
        self.shared().rival(end.lane(), E::ROLE)
    }

    /// Whether a client that was authorized as `guest` may not use `end`'s session any more.
    pub(super) fn is_forbidden<E: LaneEnd>(
        &self,
        end: &E,
        guest: Option<AddressTag>,
    ) -> Result<bool, Refusal> {
        Ok(guest.is_some() && is_forbidden(guest, self.shared().guest(end)?))
    }
}

impl Cx<'_> {
    /// The next step of a party that waits in `end`'s session until `ends_ms`. Ends the session if its lifetime is
    /// over. A session in which something is transferred lives on: a running transfer is not cut, and a message
    /// renews its session.
    pub(super) fn wait<E: LaneEnd>(self, end: &E, ends_ms: u64) -> Result<Wait, Refusal> {
        let (shared, session) = (self.env.shared(), end.lane().session);
        wait(ends_ms, shared.expires_ms(end)?, self.now_ms, || {
            if shared.expire(session, self.now_ms, |owner| self.env.ring(owner, session.slot)) {
                self.env.count(Tally::Ended(End::Expired));
            }
            Ok(shared.life(session)? == Some(Life::Live))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lives() -> Result<bool, Refusal> {
        Ok(true)
    }

    #[test]
    fn a_wait_ends_at_its_deadline_or_with_the_session() {
        let never = || panic!("the session's lifetime is not over");
        assert_eq!(wait(100, 200, 0, never), Ok(Wait::Until(100)));
        assert_eq!(wait(300, 200, 0, never), Ok(Wait::Until(200)), "the session is looked at then");
        assert_eq!(wait(100, 200, 100, never), Ok(Wait::NobodyCame));
        assert_eq!(wait(100, 200, 200, || Ok(false)), Ok(Wait::Expired), "before the wait's end");
    }

    #[test]
    fn a_session_in_use_outlives_its_lifetime_and_is_looked_at_anyway() {
        let soon = 200 + LOOK_ANYWAY_MS;
        assert_eq!(wait(u64::MAX, 200, 200, lives), Ok(Wait::Until(soon)));
        assert_eq!(wait(201, 200, 200, lives), Ok(Wait::Until(201)));
        assert_eq!(wait(200, 200, 200, lives), Ok(Wait::NobodyCame));
    }

    #[test]
    fn a_damaged_session_ends_the_wait() {
        assert_eq!(wait(100, 0, 50, || Err(Refusal::UnwantedPipe)), Err(Refusal::UnwantedPipe));
    }

    fn tag(digest: u64) -> Option<AddressTag> {
        Some(AddressTag::of(digest))
    }

    #[test]
    fn only_the_guest_that_a_host_authorized_may_stay() {
        let [none, one, other] = [None, tag(7), tag(8)];
        assert!(!is_forbidden(none, none) && !is_forbidden(none, one), "an open session");
        assert!(!is_forbidden(one, one));
        assert!(is_forbidden(one, other) && is_forbidden(one, none));
    }

    #[test]
    fn a_rival_is_told_no_by_the_second_turn_that_finds_it() {
        let mut watch = RivalWatch::default();
        assert_eq!(watch.judge(None), Rival::Answered);
        assert_eq!(watch.judge(tag(7)), Rival::New);
        assert_eq!(watch.judge(tag(7)), Rival::Refuse(AddressTag::of(7)));
        assert_eq!(watch.judge(tag(7)), Rival::New, "it came back");
        assert_eq!(watch.judge(tag(8)), Rival::New, "another one");
        assert_eq!(watch.judge(None), Rival::Answered, "it gave up");
        assert_eq!(watch.judge(tag(8)), Rival::New);
    }

    #[test]
    fn a_rival_that_is_found_has_the_next_turn_come_at_once() {
        let (before, mut watch) = (RivalWatch::default(), RivalWatch::default());
        assert!(!watch.has_found_since(before));
        watch.judge(tag(7));
        assert!(watch.has_found_since(before));
        let before = watch;
        assert!(!watch.has_found_since(before), "no turn was taken");
        watch.judge(tag(7));
        assert!(!watch.has_found_since(before), "it was told no");
    }

    #[test]
    fn a_fin_counts_once_the_sender_was_seen_to_wait() {
        let mut wait = SenderWait::new(100);
        assert!(!wait.left_while_waiting(true, false), "it may be the end of its request");
        assert!(wait.has_left(true, false), "no receiver is there");
        wait.was_seen = true;
        assert!(wait.left_while_waiting(true, false) && wait.left_while_waiting(true, true));
        assert!(!wait.left_while_waiting(false, false));
    }

    #[test]
    fn a_sender_that_waits_again_may_have_said_all_it_will_say() {
        let mut wait = SenderWait::new(100);
        wait.was_seen = true;
        wait.begin_again();
        assert!(!wait.left_while_waiting(true, false), "as in its first turn");
        assert!(!wait.has_left(true, true), "its body was read");
        assert!(wait.has_left(true, false));
    }

    #[test]
    fn a_sender_whose_fin_may_be_stuck_gives_way() {
        assert!(may_be_dead(true, 10, Some(11)) && may_be_dead(true, 10, None));
        assert!(!may_be_dead(true, 11, Some(11)), "all has come, and so would a FIN");
        assert!(!may_be_dead(false, 10, None), "there is room for a FIN");
    }
}
