//! Publish and AckRecv: the receiver reads what the sender wrote, and neither end sleeps through news.

use super::*;

/// Sends the numbers `0..count`, sleeping whenever there is no room.
fn send(world: &World, sender: &mut SenderEnd, count: u64, own: &Waker, peer: &Waker) {
    let shared = world.shared();
    for value in 0..count {
        let reserved = loop {
            if let Some(reserved) = sender.attach(&shared).unwrap().reserve().unwrap() {
                break reserved;
            }
            if sender.attach(&shared).unwrap().wait_for_room().unwrap() {
                own.poll();
            }
        };
        world.write(&reserved, value);
        if sender.attach(&shared).unwrap().publish(reserved, 0..8) {
            peer.write();
        }
    }
}

/// Receives the numbers `0..count`, sleeping whenever there is nothing.
fn receive(world: &World, receiver: &mut ReceiverEnd, count: u64, own: &Waker, peer: &Waker) {
    let shared = world.shared();
    let mut expected = 0;
    while expected < count {
        let mut attached = receiver.attach(&shared).unwrap();
        let Some(piece) = attached.next_published().unwrap() else {
            if receiver.attach(&shared).unwrap().wait_for_chunk().unwrap() {
                own.poll();
            }
            continue;
        };
        assert_eq!(world.read(piece.buffer()), expected);
        expected += 1;
        if piece.ack_recv() {
            peer.write();
        }
    }
}

/// Relays the numbers `0..count` through a lane of `lane_chunks`.
fn relay_numbers(lane_chunks: usize, count: u64) {
    // A lane grows to its last chunk while the pool has as many again.
    let world = World::new(1, 2 * lane_chunks, lane_chunks);
    let (mut sender, mut receiver) = world.begun();
    let wakers = Arc::new((Waker::new(), Waker::new()));
    let thread = thread::spawn({
        let (world, wakers) = (world.clone(), wakers.clone());
        move || {
            receive(&world, &mut receiver, count, &wakers.1, &wakers.0);
            receiver
        }
    });
    send(&world, &mut sender, count, &wakers.0, &wakers.1);
    let receiver = thread.join().unwrap();
    let shared = world.shared();
    shared.leave_sender(sender, None).unwrap();
    shared.leave_receiver(receiver).unwrap();
    world.assert_left(1);
}

#[test]
fn one_chunk_is_rewritten_only_after_ack_recv() {
    check(Some(6), || relay_numbers(1, 2));
}

#[test]
fn two_chunks_are_rewritten_only_after_ack_recv() {
    check(Some(4), || relay_numbers(2, 3));
}

#[test]
fn a_finish_reaches_a_receiver_that_waits() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let (mut sender, mut receiver) = world.begun();
        let waker = Arc::new(Waker::new());
        let thread = thread::spawn({
            let (world, waker) = (world.clone(), waker.clone());
            move || {
                let shared = world.shared();
                let mut pieces = 0;
                loop {
                    let finish = receiver.attach(&shared).unwrap().finish();
                    if let Some(piece) = receiver.attach(&shared).unwrap().next_published().unwrap()
                    {
                        assert_eq!(world.read(piece.buffer()), 5);
                        piece.ack_recv();
                        pieces += 1;
                    } else if finish != Finish::Open {
                        // A receiver that sees the finish first also sees all that was published before it.
                        assert_eq!((finish, pieces), (Finish::Whole(8), 1));
                        return;
                    } else if receiver.attach(&shared).unwrap().wait_for_chunk().unwrap() {
                        waker.poll();
                    }
                }
            }
        });
        let shared = world.shared();
        if publish(&world, &shared, &mut sender, 5) {
            waker.write();
        }
        sender.attach(&shared).unwrap().set_finish(Finish::Whole(8));
        waker.write();
        thread.join().unwrap();
    });
}
