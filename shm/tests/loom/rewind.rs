//! A sender takes back what a lost receiver has not taken, while another receiver comes or the session ends.

use super::*;

/// A sender in an attempt whose receiver was lost, and that has published one chunk.
fn bereft(world: &World) -> SenderEnd {
    let (mut sender, _dead) = world.begun();
    let shared = world.shared();
    publish(world, &shared, &mut sender, 77);
    shared.sweep(owner(2).worker, |_, _| {});
    sender
}

#[test]
fn the_next_receiver_gets_what_was_taken_back() {
    check(Some(2), || {
        let world = World::new(1, 2, 1);
        let mut sender = bereft(&world);
        let at = sender.lane();
        let next = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                let mut receiver = loop {
                    match shared.take_receiver(at, owner(3), false) {
                        Ok(end) => break end,
                        Err(error) => assert_eq!(error, TakeError::Leaving),
                    }
                    thread::yield_now();
                };
                loop {
                    if shared.look(&receiver).unwrap().begun
                        && let Some(piece) =
                            receiver.attach(&shared).unwrap().next_published().unwrap()
                    {
                        assert_eq!(world.read(piece.buffer()), 77);
                        piece.ack_recv();
                        break;
                    }
                    thread::yield_now();
                }
                shared.leave_receiver(receiver).unwrap();
            }
        });
        let shared = world.shared();
        let taken_back =
            sender.attach(&shared).unwrap().rewind().unwrap().expect("nothing was taken");
        while shared.begin(&sender, b"").unwrap().is_none() {
            thread::yield_now();
        }
        for (chunk, payload) in taken_back {
            sender.attach(&shared).unwrap().publish(chunk, payload);
        }
        next.join().unwrap();
        shared.leave_sender(sender, None).unwrap();
        world.assert_left(1);
    });
}

#[test]
fn a_session_that_ends_meanwhile_is_freed_once() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let mut sender = bereft(&world);
        let session = sender.lane().session;
        let ender = thread::spawn({
            let world = world.clone();
            move || assert!(world.shared().end(session, End::Deleted, |_| {}))
        });
        let shared = world.shared();
        for (chunk, _) in
            sender.attach(&shared).unwrap().rewind().unwrap().expect("nothing was taken")
        {
            sender.attach(&shared).unwrap().give_back(chunk).unwrap();
        }
        shared.leave_sender(sender, None).unwrap();
        ender.join().unwrap();
        world.assert_left(0);
    });
}

#[test]
fn a_sender_that_dies_while_it_takes_back_leaves_nothing() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let mut sender = bereft(&world);
        let at = sender.lane();
        let comer = thread::spawn({
            let world = world.clone();
            move || world.shared().take_receiver(at, owner(3), false).ok()
        });
        let shared = world.shared();
        drop(sender.attach(&shared).unwrap().rewind().unwrap());
        shared.sweep(owner(1).worker, |_, _| {});
        let came = comer.join().unwrap();
        if let Some(receiver) = came {
            shared.leave_receiver(receiver).unwrap();
        }
        world.assert_left(1);
        world.assert_usable(at.session);
    });
}
