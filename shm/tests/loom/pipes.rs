//! Pipes: bytes that were left in one show in no other lane, and no sender fills a pipe that a worker still empties.

use super::*;

const PIPE: Buffer = Buffer::Pipe(0);

/// Empties the pipe as `worker`, if a lane has left something in it.
fn empty(world: &World, shared: &Shared<'_>, worker: usize) {
    let worker = WorkerId::new(worker).unwrap();
    if let Some(index) = shared.pool().take_dirty(worker) {
        world.pour(Buffer::Pipe(index));
        shared.pool().give_back_emptied(index, worker).unwrap();
    }
}

/// Fills a pipe, if one is free.
fn fill(
    world: &World,
    shared: &Shared<'_>,
    sender: &mut SenderEnd,
    value: u64,
) -> Option<Reserved> {
    let reserved = sender.attach(shared).unwrap().reserve_pipe().unwrap()?;
    if reserved.buffer() == PIPE {
        assert_eq!(world.read(PIPE), 0, "filled while it is not empty");
    }
    world.write(&reserved, value);
    Some(reserved)
}

/// Leaves something in the pipe.
fn leave_full(world: &World, shared: &Shared<'_>) {
    let (mut sender, receiver) = world.begun();
    let reserved = fill(world, shared, &mut sender, 1).unwrap();
    sender.attach(shared).unwrap().publish(reserved, 0..8);
    shared.leave_receiver(receiver).unwrap();
    shared.leave_sender(sender, None).unwrap();
}

/// The one pipe there is goes from a lane that is being left to another. The receiver takes what is in it, or does
/// not, and sets AckRecv, or does not.
fn hand_on_a_pipe(takes: bool, acks: bool) {
    let world = World::with_pipes(2, 1, 1, 1);
    let shared = world.shared();
    let (mut sender, mut receiver) = world.begun();
    let reserved = fill(&world, &shared, &mut sender, 1).unwrap();
    assert_eq!(reserved.buffer(), PIPE);
    sender.attach(&shared).unwrap().publish(reserved, 0..8);
    let (mut other, other_receiver) = world.begun();
    let reader = thread::spawn({
        let world = world.clone();
        move || {
            let shared = world.shared();
            let mut attached = receiver.attach(&shared).unwrap();
            let piece = attached.next_published().unwrap().unwrap();
            let value = if takes { world.pour(piece.buffer()) } else { world.read(piece.buffer()) };
            assert_eq!(value, 1);
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
            empty(&world, &shared, 2);
            let reserved = fill(&world, &shared, &mut other, 2);
            shared.leave_sender(other, reserved).unwrap();
        }
    });
    shared.leave_sender(sender, None).unwrap();
    reader.join().unwrap();
    taker.join().unwrap();
    shared.leave_receiver(other_receiver).unwrap();
    world.assert_left(2);
    let dirty = world.shared().pool().pipes_dirty();
    assert!(world.read(PIPE) == 0 || dirty == 1, "free, and not empty");
    empty(&world, &shared, 1);
    assert_eq!((world.read(PIPE), world.shared().pool().pipes_dirty()), (0, 0));
}

#[test]
fn a_pipe_that_was_emptied_is_nobodys() {
    check(None, || hand_on_a_pipe(true, true));
}

#[test]
fn a_pipe_that_was_left_is_emptied_before_another_fills_it() {
    check(None, || hand_on_a_pipe(false, false));
}

#[test]
fn a_pipe_that_was_left_after_it_was_emptied_is_nobodys() {
    check(None, || hand_on_a_pipe(true, false));
}

/// A sender died with a pipe in flight: its receiver goes on while the dead worker is swept, and then leaves.
#[test]
fn a_pipe_of_a_dead_sender_is_its_receivers_until_that_has_left() {
    check(Some(2), || {
        let world = World::with_pipes(2, 1, 1, 1);
        let shared = world.shared();
        let (mut dead, mut receiver) = world.begun();
        let reserved = fill(&world, &shared, &mut dead, 1).unwrap();
        dead.attach(&shared).unwrap().publish(reserved, 0..8);
        let reader = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                let mut attached = receiver.attach(&shared).unwrap();
                let piece = attached.next_published().unwrap().unwrap();
                assert_eq!(world.pour(piece.buffer()), 1);
                shared.leave_receiver(receiver).unwrap();
            }
        });
        shared.sweep(WorkerId::new(1).unwrap(), |_, _| {});
        let session = world.issue(0);
        let mut other =
            shared.take_sender(session.lane(Direction::Forth), owner(3), false).unwrap();
        let reserved = fill(&world, &shared, &mut other, 2);
        reader.join().unwrap();
        shared.leave_sender(other, reserved).unwrap();
        world.assert_left(2);
    });
}

/// Two workers empty a dirty pipe while a third wants to fill it.
#[test]
fn a_pipe_is_emptied_by_one_and_filled_by_nobody_meanwhile() {
    check(Some(3), || {
        let world = World::with_pipes(2, 1, 1, 1);
        let shared = world.shared();
        leave_full(&world, &shared);
        let (mut other, other_receiver) = world.begun();
        let emptier = thread::spawn({
            let world = world.clone();
            move || empty(&world, &world.shared(), 1)
        });
        empty(&world, &shared, 2);
        let reserved = fill(&world, &shared, &mut other, 2);
        emptier.join().unwrap();
        if reserved.as_ref().is_some_and(|it| it.buffer() == PIPE) {
            assert_eq!(world.read(PIPE), 2, "emptied while it is filled");
        }
        shared.leave_sender(other, reserved).unwrap();
        shared.leave_receiver(other_receiver).unwrap();
        world.assert_left(2);
    });
}

/// A worker dies while it empties a pipe: the next one empties it anew.
#[test]
fn a_pipe_whose_emptier_died_is_emptied_by_another() {
    check(None, || {
        let world = World::with_pipes(2, 1, 1, 1);
        let shared = world.shared();
        leave_full(&world, &shared);
        assert_eq!(shared.pool().take_dirty(WorkerId::new(1).unwrap()), Some(0));
        let other = thread::spawn({
            let world = world.clone();
            move || empty(&world, &world.shared(), 2)
        });
        shared.sweep(WorkerId::new(1).unwrap(), |_, _| {});
        other.join().unwrap();
        empty(&world, &shared, 2);
        assert_eq!(world.read(PIPE), 0);
        world.assert_left(1);
    });
}
