//! Places and slots: taken, begun, left, swept, freed and issued again.

use super::*;

#[test]
fn of_two_takers_one_has_the_place() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let threads = [1, 2].map(|worker| {
            let world = world.clone();
            thread::spawn(move || {
                world.shared().take_sender(session.lane(Direction::Forth), owner(worker), false)
            })
        });
        let ends = threads.map(|thread| thread.join().unwrap());
        let taken = ends.iter().filter(|end| matches!(end, Err(TakeError::Held))).count();
        assert_eq!(taken, 1);
        for end in ends.into_iter().flatten() {
            world.shared().leave_sender(end, None).unwrap();
        }
        world.assert_left(1);
    });
}

#[test]
fn one_of_a_taker_and_an_ender_sees_the_other() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let thread = thread::spawn({
            let world = world.clone();
            move || world.shared().take_receiver(session.lane(Direction::Forth), owner(2), false)
        });
        let mut rung = None;
        assert!(world.shared().end(session, End::Deleted, |owner| rung = Some(owner)));
        match thread.join().unwrap() {
            Ok(end) => {
                assert_eq!(rung, Some(owner(2)), "a receiver waits in a session that is over");
                world.shared().leave_receiver(end).unwrap();
            }
            Err(error) => assert_eq!(error, TakeError::Ended),
        }
        world.assert_left(0);
    });
}

/// A sender begins with any receiver that comes, and leaves as soon as it sees that the session is over.
#[test]
fn a_taker_too_late_cleans_the_attempt_that_began_with_it() {
    check(Some(4), || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let sender =
            world.shared().take_sender(session.lane(Direction::Forth), owner(1), false).unwrap();
        let taker = thread::spawn({
            let world = world.clone();
            move || world.shared().take_receiver(session.lane(Direction::Forth), owner(2), false)
        });
        let begins = thread::spawn({
            let world = world.clone();
            move || {
                let (shared, mut sender) = (world.shared(), sender);
                let begun = shared.begin(&sender, b"").unwrap().is_some();
                if begun {
                    publish(&world, &shared, &mut sender, 1);
                }
                shared.leave_sender(sender, None).unwrap();
            }
        });
        assert!(world.shared().end(session, End::Deleted, |_| {}));
        begins.join().unwrap();
        if let Ok(receiver) = taker.join().unwrap() {
            world.shared().leave_receiver(receiver).unwrap();
        }
        world.assert_left(0);
    });
}

#[test]
fn of_two_leavers_one_cleans() {
    check(None, || {
        let world = World::new(1, 4, 2);
        let (mut sender, mut receiver) = world.begun();
        let shared = world.shared();
        publish(&world, &shared, &mut sender, 1);
        publish(&world, &shared, &mut sender, 2);
        let thread = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                let mut attached = receiver.attach(&shared).unwrap();
                let piece = attached.next_published().unwrap().unwrap();
                assert_eq!(world.read(piece.buffer()), 1);
                piece.ack_recv();
                shared.leave_receiver(receiver).unwrap()
            }
        });
        let session = sender.lane().session;
        let reserved = sender.attach(&shared).unwrap().reserve().unwrap();
        if let Some(reserved) = &reserved {
            world.write(reserved, 3);
        }
        let peers = [shared.leave_sender(sender, reserved).unwrap(), thread.join().unwrap()];
        assert_eq!(peers.iter().flatten().count(), 1, "one leaves the other behind: {peers:?}");
        world.assert_left(1);
        world.assert_usable(session);
    });
}

/// The one chunk there is goes from a lane that is being left to another, with or without AckRecv.
fn hand_on_a_chunk(acks: bool) {
    let world = World::new(2, 1, 1);
    let shared = world.shared();
    let (mut sender, mut receiver) = world.begun();
    publish(&world, &shared, &mut sender, 1);
    let (mut other, other_receiver) = world.begun();
    let reader = thread::spawn({
        let world = world.clone();
        move || {
            let shared = world.shared();
            let mut attached = receiver.attach(&shared).unwrap();
            let piece = attached.next_published().unwrap().unwrap();
            assert_eq!(world.read(piece.buffer()), 1);
            if acks {
                piece.ack_recv();
            }
            shared.leave_receiver(receiver).unwrap();
        }
    });
    let taker = thread::spawn({
        let world = world.clone();
        move || {
            let shared = world.shared();
            let reserved = other.attach(&shared).unwrap().reserve().unwrap();
            if let Some(reserved) = &reserved {
                world.write(reserved, 2);
            }
            shared.leave_sender(other, reserved).unwrap();
        }
    });
    shared.leave_sender(sender, None).unwrap();
    reader.join().unwrap();
    taker.join().unwrap();
    shared.leave_receiver(other_receiver).unwrap();
    world.assert_left(2);
}

#[test]
fn of_two_lanes_one_takes_the_last_chunk() {
    check(None, || {
        let world = World::new(2, 1, 1);
        let ends = [world.begun(), world.begun()];
        let threads = ends.map(|(mut sender, receiver)| {
            let world = world.clone();
            let taken = thread::spawn(move || {
                let reserved = sender.attach(&world.shared()).unwrap().reserve().unwrap();
                if let Some(reserved) = &reserved {
                    world.write(reserved, 1);
                }
                (sender, reserved)
            });
            (taken, receiver)
        });
        let shared = world.shared();
        let mut taken = 0;
        // Both have tried before either leaves, or the chunk would be free again for the second.
        let ends = threads.map(|(thread, receiver)| (thread.join().unwrap(), receiver));
        for ((sender, reserved), receiver) in ends {
            taken += usize::from(reserved.is_some());
            shared.leave_receiver(receiver).unwrap();
            shared.leave_sender(sender, reserved).unwrap();
        }
        assert_eq!(taken, 1);
        world.assert_left(2);
    });
}

#[test]
fn a_chunk_that_came_back_is_nobodys() {
    check(None, || hand_on_a_chunk(true));
}

#[test]
fn a_chunk_that_was_left_is_nobodys() {
    check(None, || hand_on_a_chunk(false));
}

#[test]
fn a_leaver_and_the_sweep_of_its_dead_sender_leave_nothing() {
    check(None, || {
        let world = World::new(1, 4, 2);
        let shared = world.shared();
        let (mut dead, receiver) = world.begun();
        let session = dead.lane().session;
        publish(&world, &shared, &mut dead, 1);
        let _in_hand = dead.attach(&shared).unwrap().reserve().unwrap().unwrap();
        let thread = thread::spawn({
            let world = world.clone();
            move || world.shared().leave_receiver(receiver).unwrap()
        });
        let mut rung = 0;
        shared.sweep(WorkerId::new(1).unwrap(), |slot, peer| {
            assert_eq!((slot, peer), (session.slot, owner(2)));
            rung += 1;
        });
        let left_behind = thread.join().unwrap();
        assert_eq!(rung == 1, left_behind.is_none(), "the first to go sees the other");
        world.assert_left(1);
        world.assert_usable(session);
    });
}

#[test]
fn a_leaver_and_the_sweep_of_its_dead_receiver_leave_nothing() {
    check(None, || {
        let world = World::new(1, 4, 2);
        let shared = world.shared();
        let (mut sender, mut dead) = world.begun();
        let session = sender.lane().session;
        publish(&world, &shared, &mut sender, 1);
        publish(&world, &shared, &mut sender, 2);
        dead.attach(&shared).unwrap().next_published().unwrap().unwrap().ack_recv();
        let reserved = sender.attach(&shared).unwrap().reserve().unwrap();
        let thread = thread::spawn({
            let world = world.clone();
            move || world.shared().leave_sender(sender, reserved).unwrap()
        });
        shared.sweep(WorkerId::new(2).unwrap(), |_, _| {});
        thread.join().unwrap();
        world.assert_left(1);
        world.assert_usable(session);
    });
}

#[test]
fn a_sender_that_begins_with_the_dead_learns_of_it() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let (sender, _dead) = world.paired(session.lane(Direction::Forth));
        let thread = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                (shared.begin(&sender, b"").unwrap(), sender)
            }
        });
        let shared = world.shared();
        let mut rung = 0;
        shared.sweep(WorkerId::new(2).unwrap(), |_, _| rung += 1);
        let (begun, sender) = thread.join().unwrap();
        assert_eq!(rung == 1, begun.is_some(), "a sender in an attempt is rung for");
        shared.leave_sender(sender, None).unwrap();
        world.assert_left(1);
        world.assert_usable(session);
    });
}

#[test]
fn a_slot_issued_again_keeps_its_places_from_a_stale_taker() {
    check(Some(6), || {
        let world = World::new(1, 1, 1);
        let old = world.issue(0);
        let stale = thread::spawn({
            let world = world.clone();
            move || world.shared().take_sender(old.lane(Direction::Forth), owner(1), false)
        });
        let shared = world.shared();
        assert!(shared.end(old, End::Deleted, |_| {}));
        let new = shared.issue(owner(0), &TERMS, 0);
        match stale.join().unwrap() {
            Ok(end) => {
                assert_eq!(new, None, "a slot with a held place is not free");
                shared.leave_sender(end, None).unwrap();
            }
            Err(error) => assert_eq!(error, TakeError::Ended),
        }
        world.assert_left(usize::from(new.is_some()));
        if let Some(new) = new {
            world.assert_usable(new);
        }
    });
}

/// Two ends leave a session that is over, both may free its slot, and a third process waits to claim it.
#[test]
fn a_slot_freed_by_two_is_freed_once() {
    check(Some(3), || {
        let world = World::new(1, 1, 1);
        let old = world.issue(0);
        let (sender, receiver) = world.paired(old.lane(Direction::Forth));
        assert!(world.shared().end(old, End::Deleted, |_| {}));
        let leavers = [
            thread::spawn({
                let world = world.clone();
                move || world.shared().leave_sender(sender, None).unwrap()
            }),
            thread::spawn({
                let world = world.clone();
                move || world.shared().leave_receiver(receiver).unwrap()
            }),
        ];
        let new = loop {
            if let Some(new) = world.shared().issue(owner(0), &TERMS, 0) {
                break new;
            }
            thread::yield_now();
        };
        for leaver in leavers {
            leaver.join().unwrap();
        }
        world.assert_left(1);
        assert_eq!(new.issue_number, old.issue_number + 1);
        assert_eq!(world.shared().life(new), Ok(Some(Life::Live)));
        world.assert_usable(new);
    });
}

/// A sweep looks at a slot while a session goes through it.
#[test]
fn a_slot_is_not_freed_under_the_one_that_holds_a_place() {
    check(Some(5), || {
        let world = World::new(1, 1, 1);
        let sweeper = thread::spawn({
            let world = world.clone();
            move || world.shared().sweep(WorkerId::new(9).unwrap(), |_, _| {})
        });
        let shared = world.shared();
        let session = world.issue(0);
        let sender = shared.take_sender(session.lane(Direction::Forth), owner(1), false).unwrap();
        assert!(shared.end(session, End::Deleted, |_| {}));
        sweeper.join().unwrap();
        assert_eq!(shared.life(session), Ok(Some(Life::Ended(End::Deleted))));
        shared.leave_sender(sender, None).unwrap();
        world.assert_left(0);
    });
}

#[test]
fn a_look_up_never_mixes_two_sessions() {
    check(Some(3), || {
        let world = World::new(1, 1, 1);
        let old = world.issue(0);
        let finder = thread::spawn({
            let world = world.clone();
            move || world.shared().find(0)
        });
        let shared = world.shared();
        assert!(shared.end(old, End::Deleted, |_| {}));
        let others = Terms { key: [5; 32], token: [6; 32], kind: 7, lifetime_ms: 8, account: None };
        let new = shared.issue(owner(0), &others, 0).unwrap();
        if let Some(found) = finder.join().unwrap() {
            let expected = if found.session == old { (old, TERMS) } else { (new, others) };
            assert_eq!((found.session, found.terms), expected);
            assert_eq!(found.expires_ms, found.terms.lifetime_ms);
        }
    });
}

/// A newcomer's mark is never taken for the one of the holder before it: the mark goes with the place.
#[test]
fn a_holder_that_has_not_said_its_mark_has_none() {
    check(Some(3), || {
        let world = World::new(1, 1, 1);
        let shared = world.shared();
        let at = shared.issue(owner(0), &TERMS, 0).unwrap().lane(Direction::Forth);
        let mut first = shared.take_receiver(at, owner(1), false).unwrap();
        first.attach(&shared).unwrap().record_guest(Some(AddressTag::of(7)));
        let leaves = thread::spawn({
            let world = world.clone();
            move || world.shared().leave_receiver(first).map(drop).unwrap()
        });
        let comes = thread::spawn({
            let world = world.clone();
            move || world.shared().take_receiver(at, owner(2), false).is_ok()
        });
        let word = shared.places(at).unwrap().unwrap();
        if word.receiver.owner == owner(2) {
            assert_eq!(shared.receiver_guest(at), Ok(None));
        }
        leaves.join().unwrap();
        comes.join().unwrap();
    });
}

/// A guest that claims a session which ends at this moment does not keep the next session in the slot from its guest.
#[test]
fn a_late_guest_does_not_take_the_next_session() {
    check(Some(3), || {
        let world = World::new(1, 1, 1);
        let shared = world.shared();
        let old = shared.issue(owner(0), &TERMS, 0).unwrap();
        let (late, guest) = (AddressTag::of(7), AddressTag::of(8));
        let claims = thread::spawn({
            let world = world.clone();
            move || world.shared().claim_guest(old, late)
        });
        assert!(shared.end(old, End::Deleted, |_| {}));
        let next = shared.issue(owner(1), &TERMS, 0).unwrap();
        let first = shared.claim_guest(next, guest).unwrap();
        let claimed = claims.join().unwrap().unwrap();
        assert_ne!(claimed, Some(false));
        // It may have stood in the way for a moment, and the guest comes again then.
        let again = shared.claim_guest(next, guest).unwrap();
        assert_eq!(again, Some(true), "after {first:?}");
    });
}
