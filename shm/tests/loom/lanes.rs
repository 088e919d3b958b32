//! Two lanes of one session: left, swept, ended, expired and asked for by a rival at the same time.

use super::*;
use Direction::{Back, Forth};

/// Two ends leave the two lanes of a session that is over, either may free its slot, and a third process waits to
/// claim it.
#[test]
fn a_slot_left_by_two_lanes_is_freed_once() {
    check(Some(4), || {
        let world = World::new(1, 1, 1);
        let old = world.issue(0);
        let receiver = world.shared().take_receiver(old.lane(Forth), owner(1), false).unwrap();
        let sender = world.shared().take_sender(old.lane(Back), owner(2), false).unwrap();
        assert!(world.shared().end(old, End::Deleted, |_| {}));
        let leavers = [
            thread::spawn({
                let world = world.clone();
                move || world.shared().leave_receiver(receiver).unwrap()
            }),
            thread::spawn({
                let world = world.clone();
                move || world.shared().leave_sender(sender, None).unwrap()
            }),
        ];
        let early = world.shared().issue(owner(0), &TERMS, 0);
        for leaver in leavers {
            assert_eq!(leaver.join().unwrap(), None);
        }
        let new = early.unwrap_or_else(|| world.issue(0));
        world.assert_left(1);
        assert_eq!(new.issue_number, old.issue_number + 1);
        assert_eq!(world.shared().life(new), Ok(Some(Life::Live)));
        world.assert_usable(new);
    });
}

/// Either lane's attempt is over but for its last leaver, which gives back the chunks of its own lane alone.
#[test]
fn two_last_leavers_clean_a_lane_each() {
    check(Some(3), || {
        let world = World::new(1, 2, 1);
        let session = world.issue(0);
        let ends = Direction::ALL.map(|direction| {
            let shared = world.shared();
            let (mut sender, receiver) = world.paired(session.lane(direction));
            shared.begin(&sender, b"").unwrap().unwrap();
            publish(&world, &shared, &mut sender, direction as u64);
            assert_eq!(shared.leave_sender(sender, None), Ok(Some(owner(2))));
            receiver
        });
        let leavers = ends.map(|mut receiver| {
            let world = world.clone();
            thread::spawn(move || {
                let shared = world.shared();
                let mut attached = receiver.attach(&shared).unwrap();
                let piece = attached.next_published().unwrap().unwrap();
                assert_eq!(world.read(piece.buffer()), receiver.lane().direction as u64);
                shared.leave_receiver(receiver).unwrap()
            })
        });
        let ended = world.shared().end(session, End::Deleted, |_| {});
        for leaver in leavers {
            assert_eq!(leaver.join().unwrap(), None);
        }
        assert!(ended);
        world.assert_left(0);
        let new = world.issue(0);
        world.assert_usable(new);
    });
}

/// A worker takes a place in one lane while the session is ended and the other lane is left.
#[test]
fn a_taker_in_one_lane_and_an_ender_and_a_leaver_in_the_other() {
    check(Some(4), || {
        let world = World::new(1, 1, 1);
        let old = world.issue(0);
        let waits = world.shared().take_receiver(old.lane(Back), owner(1), false).unwrap();
        let leaver = thread::spawn({
            let world = world.clone();
            move || world.shared().leave_receiver(waits).unwrap()
        });
        let taker = thread::spawn({
            let world = world.clone();
            move || world.shared().take_sender(old.lane(Forth), owner(2), false)
        });
        let shared = world.shared();
        let mut rung = Vec::new();
        assert!(shared.end(old, End::Deleted, |owner| rung.push(owner)));
        let new = shared.issue(owner(0), &TERMS, 0);
        leaver.join().unwrap();
        match taker.join().unwrap() {
            Ok(end) => {
                assert!(rung.contains(&owner(2)), "a sender waits in a session that is over");
                assert_eq!(new, None, "a slot with a held place is not free");
                shared.leave_sender(end, None).unwrap();
            }
            Err(error) => assert_eq!(error, TakeError::Ended),
        }
        world.assert_left(usize::from(new.is_some()));
        let new = new.unwrap_or_else(|| world.issue(0));
        world.assert_usable(new);
    });
}

/// The dead worker sent in one lane and waited in the other; its peers leave while it is swept.
#[test]
fn a_sweep_of_both_lanes_and_their_leavers_leave_nothing() {
    check(Some(4), || {
        let world = World::new(1, 2, 1);
        let session = world.issue(0);
        let shared = world.shared();
        let (mut dead, receiver) = world.paired(session.lane(Forth));
        shared.begin(&dead, b"").unwrap().unwrap();
        publish(&world, &shared, &mut dead, 1);
        let _dead_too = shared.take_receiver(session.lane(Back), owner(1), false).unwrap();
        let sender = shared.take_sender(session.lane(Back), owner(3), false).unwrap();
        let leaver = thread::spawn({
            let world = world.clone();
            move || world.shared().leave_receiver(receiver).unwrap()
        });
        let sends = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                let begun = shared.begin(&sender, b"").unwrap();
                (begun, sender)
            }
        });
        let mut rung = Vec::new();
        shared.sweep(WorkerId::new(1).unwrap(), |slot, peer| {
            assert_eq!(slot, session.slot);
            rung.push(peer);
        });
        let left_behind = leaver.join().unwrap();
        assert_eq!(rung.contains(&owner(2)), left_behind.is_none(), "the first sees the other");
        let (begun, sender) = sends.join().unwrap();
        assert_eq!(rung.contains(&owner(3)), begun.is_some(), "in an attempt one is rung for");
        shared.leave_sender(sender, None).unwrap();
        world.assert_left(1);
        world.assert_usable(session);
    });
}

/// As above, but the session is ended meanwhile: the last leaver frees the slot.
#[test]
fn a_sweep_of_both_lanes_frees_the_slot_of_a_session_that_ends() {
    check(Some(4), || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let shared = world.shared();
        let _dead = shared.take_sender(session.lane(Forth), owner(1), false).unwrap();
        let _dead_too = shared.take_receiver(session.lane(Back), owner(1), false).unwrap();
        let waits = shared.take_receiver(session.lane(Forth), owner(2), false).unwrap();
        let other = thread::spawn({
            let world = world.clone();
            move || {
                let ended = world.shared().end(session, End::Deleted, |_| {});
                assert!(ended);
                world.shared().leave_receiver(waits).unwrap()
            }
        });
        shared.sweep(WorkerId::new(1).unwrap(), |_, peer| assert_eq!(peer, owner(2)));
        assert_eq!(other.join().unwrap(), None);
        world.assert_left(0);
        world.assert_usable(world.issue(0));
    });
}

/// A transfer begins in one lane while a party that waits in the other expires the session: either the transfer was
/// seen, and goes on in a session that lives, or both its ends are told that the session is over.
#[test]
fn a_transfer_that_begins_as_its_session_expires_is_seen_or_told() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let (sender, receiver) = world.paired(session.lane(Back));
        let begins = thread::spawn({
            let world = world.clone();
            move || {
                assert_eq!(world.shared().begin(&sender, b""), Ok(Some(owner(2))));
                sender
            }
        });
        let shared = world.shared();
        let mut rung = Vec::new();
        shared.expire(session, TERMS.lifetime_ms, |owner| rung.push(owner));
        let told = if shared.life(session) == Ok(Some(Life::Live)) {
            Vec::new()
        } else {
            assert_eq!(shared.life(session), Ok(Some(Life::Ended(End::Expired))));
            vec![owner(1), owner(2)]
        };
        assert_eq!(rung, told);
        let sender = begins.join().unwrap();
        // A running transfer keeps the session from expiring.
        shared.expire(session, u64::MAX, |owner| panic!("{owner:?} was told twice"));
        assert_eq!(shared.life(session) == Ok(Some(Life::Live)), told.is_empty());
        shared.leave_sender(sender, None).unwrap();
        shared.leave_receiver(receiver).unwrap();
        world.assert_left(usize::from(told.is_empty()));
    });
}

/// A transfer ends in one lane and begins the lifetime anew, while a party that waits in the other lane finds the old
/// lifetime over.
#[test]
fn a_lifetime_begun_anew_is_not_over() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let (sender, receiver) = world.begun();
        let session = sender.lane().session;
        let ends = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                shared.renew(&sender, 3).unwrap();
                shared.leave_sender(sender, None).unwrap();
                shared.leave_receiver(receiver).unwrap();
            }
        });
        let shared = world.shared();
        shared.expire(session, TERMS.lifetime_ms, |owner| panic!("{owner:?} was told"));
        ends.join().unwrap();
        assert_eq!(shared.find(session.slot).unwrap().expires_ms, 3 + TERMS.lifetime_ms);
        world.assert_left(1);
    });
}

/// The rival of every holder here.
const RIVAL: AddressTag = AddressTag::of(7);

/// Names the rival, and returns the owner that was rung for.
fn name_rival(shared: &Shared<'_>, at: LaneRef) -> Option<Owner> {
    let mut told = None;
    shared.name_rival(at, Role::Sender, RIVAL, |holder| told = Some(holder)).unwrap();
    told
}

/// A holder gives way to a rival as soon as it hears of it. The rival takes the place, and is not asked to give
/// way itself.
#[test]
fn a_holder_that_is_told_of_a_rival_gives_way_once() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let at = session.lane(Back);
        let holder = world.shared().take_sender(at, owner(1), false).unwrap();
        let waker = Arc::new(Waker::new());
        let gives_way = thread::spawn({
            let (world, waker) = (world.clone(), waker.clone());
            move || {
                let shared = world.shared();
                waker.poll();
                assert_eq!(
                    shared.rival(at, Role::Sender),
                    Ok(Some(RIVAL)),
                    "who is told finds the rival"
                );
                assert_eq!(shared.leave_sender(holder, None), Ok(None));
            }
        });
        let shared = world.shared();
        assert_eq!(shared.take_sender(at, owner(2), false).err(), Some(TakeError::Held));
        assert_eq!(name_rival(&shared, at), Some(owner(1)));
        waker.write();
        let taken = loop {
            match shared.take_sender(at, owner(2), false) {
                Ok(end) => break end,
                Err(error) => assert_eq!(error, TakeError::Held),
            }
            thread::yield_now();
        };
        assert_eq!(shared.rival(at, Role::Sender), Ok(None));
        gives_way.join().unwrap();
        shared.leave_sender(taken, None).unwrap();
        world.assert_left(1);
    });
}

/// The old holder, the new one or neither hears of a claim that comes while the place changes hands. No holder hears
/// of a claim that was taken back.
#[test]
fn a_claim_that_was_taken_back_leaves_nothing() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let at = session.lane(Forth);
        let holder = world.shared().take_sender(at, owner(1), false).unwrap();
        let rival = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                let told = name_rival(&shared, at);
                shared.clear_rival(at, Role::Sender, RIVAL).unwrap();
                told
            }
        });
        let shared = world.shared();
        shared.leave_sender(holder, None).unwrap();
        let next = shared.take_sender(at, owner(2), false).unwrap();
        let heard = shared.rival(at, Role::Sender).unwrap();
        assert!(heard.is_none_or(|heard| heard == RIVAL));
        let told = rival.join().unwrap();
        assert!(told.is_none_or(|told| told == owner(1) || told == owner(2)));
        assert_eq!(shared.rival(at, Role::Sender), Ok(None));
        shared.leave_sender(next, None).unwrap();
        world.assert_left(1);
    });
}

#[test]
fn a_claim_in_a_session_that_is_over_is_not_heard_in_the_next() {
    check(Some(6), || {
        let world = World::new(1, 1, 1);
        let old = world.issue(0);
        let rival = thread::spawn({
            let world = world.clone();
            move || name_rival(&world.shared(), old.lane(Forth))
        });
        let shared = world.shared();
        assert!(shared.end(old, End::Deleted, |_| {}));
        let new = world.issue(0);
        let holder = shared.take_sender(new.lane(Forth), owner(1), false).unwrap();
        let told = rival.join().unwrap();
        assert!(told.is_none_or(|told| told == owner(1)));
        assert_eq!(shared.rival(new.lane(Forth), Role::Sender), Ok(None));
        shared.leave_sender(holder, None).unwrap();
        world.assert_left(1);
    });
}

/// A host names its guest while its session ends and the next one's host names another.
#[test]
fn a_late_name_takes_none_from_the_next_session() {
    check(Some(6), || {
        let world = World::new(1, 1, 1);
        let old = world.issue(0);
        world.shared().set_guest(old, AddressTag::of(7), |_| {}).unwrap();
        let late = thread::spawn({
            let world = world.clone();
            move || world.shared().set_guest(old, AddressTag::of(8), |_| {}).unwrap()
        });
        let shared = world.shared();
        assert!(shared.end(old, End::Deleted, |_| {}));
        let new = world.issue(0);
        shared.set_guest(new, AddressTag::of(9), |_| {}).unwrap();
        late.join().unwrap();
        assert_eq!(shared.find(new.slot).unwrap().guest, Some(AddressTag::of(9)));
    });
}

/// A worker waits for a held place and tries again, while the holder leaves: the worker has the place, or the holder
/// that left is told to ring for it.
#[test]
fn a_waiter_has_the_place_or_is_told() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let at = world.issue(0).lane(Back);
        let holder = world.shared().take_receiver(at, owner(1), false).unwrap();
        let leaver = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                shared.leave_receiver(holder).unwrap();
                shared.take_waiters(at).collect::<Vec<_>>()
            }
        });
        let shared = world.shared();
        shared.register_waiter(at, Role::Receiver, owner(2)).unwrap();
        let taken = shared.take_receiver(at, owner(2), false);
        let told = leaver.join().unwrap();
        match taken {
            Ok(end) => assert_eq!(shared.leave_receiver(end), Ok(None)),
            Err(error) => assert_eq!((error, told), (TakeError::Held, vec![owner(2)])),
        }
        world.assert_left(1);
    });
}

/// As above, and the holder's worker is dead: the sweep rings.
#[test]
fn a_waiter_for_a_dead_holder_has_the_place_or_is_told() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let at = world.issue(0).lane(Back);
        let _dead = world.shared().take_receiver(at, owner(1), false).unwrap();
        let waiter = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                shared.register_waiter(at, Role::Receiver, owner(2)).unwrap();
                shared.take_receiver(at, owner(2), false)
            }
        });
        let shared = world.shared();
        let mut rung = Vec::new();
        shared.sweep(WorkerId::new(1).unwrap(), |_, owner| rung.push(owner));
        match waiter.join().unwrap() {
            Ok(end) => assert_eq!(shared.leave_receiver(end), Ok(None)),
            Err(error) => assert_eq!((error, rung), (TakeError::Held, vec![owner(2)])),
        }
        world.assert_left(1);
    });
}
