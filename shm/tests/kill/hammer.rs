//! A worker that does everything at random and checks all it sees.

use crate::script::World;
use nix::sched::sched_yield;
use shm::{
    Digest, End, Finish, Owner, ReceiverEnd, SenderEnd, SessionRef, Settled, TakeError, WorkerId,
};

/// Tries until a peer that does not come is given up.
const PATIENCE: usize = 300;

/// As many times as a peer is waited for, others running in between.
fn tries() -> impl Iterator<Item = ()> {
    (0..PATIENCE).map(|_| sched_yield().unwrap())
}

/// xorshift64*: small, seeded, the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The seed that `SHM_SEED` gives, or a new one; printed, for when the test fails.
    pub(crate) fn from_environment() -> Self {
        let given = std::env::var("SHM_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()) << 16 | 1);
        println!("SHM_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }
}

/// Complete transfers of all workers, counted in their records.
pub(crate) fn transfers(world: &World) -> u64 {
    let workers = (0..3).map(|worker| WorkerId::new(worker).unwrap());
    workers.map(|worker| world.shared().record(worker).unwrap().counters().accepted).sum()
}

/// Never returns but by a panic: the process is to be killed.
pub(crate) fn run(world: &World, worker: usize, mut random: Random) -> i32 {
    let owner = world.owner(worker);
    loop {
        let slot = u32::try_from(random.below(world.shared().sessions())).unwrap();
        let Some(found) = world.shared().find(slot) else {
            let digest = [u8::try_from(random.below(256)).unwrap(); 32];
            let _ = world.shared().issue(owner, &digest, &digest, 0, u64::MAX);
            continue;
        };
        assert_eq!(found.key, found.token, "two sessions in one answer");
        assert_eq!(found.key, [found.key[0]; 32] as Digest);
        match random.below(16) {
            0 => drop(world.shared().end(found.session, End::Deleted, |_| {})),
            1..8 => send(world, found.session, owner, &mut random),
            _ => receive(world, found.session, owner, &mut random),
        }
    }
}

fn taken<E>(taken: Result<E, TakeError>) -> Option<E> {
    match taken {
        Ok(end) => Some(end),
        Err(TakeError::Ended | TakeError::Taken | TakeError::Leaving) => None,
        Err(TakeError::Refused(refusal)) => panic!("{refusal}"),
    }
}

fn send(world: &World, session: SessionRef, owner: Owner, random: &mut Random) {
    let shared = world.shared();
    let Some(mut end) = taken(shared.take_sender(session, owner, false)) else { return };
    let begun = tries().any(|()| shared.begin(&end, b"").unwrap().is_some());
    let mut filling = None;
    if begun {
        for number in 0..random.below(12) as u64 {
            filling = tries().find_map(|()| end.reserve(shared).unwrap());
            // Some leave with a chunk in hand.
            let Some(mut chunk) = filling.take_if(|_| number < 11) else { break };
            fill(world.segment.bytes_mut(&mut chunk), session, number);
            let bytes = 16 + 8 * random.below(510);
            end.publish(shared, chunk, 0..bytes).unwrap();
        }
        let whole = Finish::Whole(end.published_bytes());
        end.finish(shared, if filling.is_none() { whole } else { Finish::Aborted }).unwrap();
        await_settlement(world, &end, owner);
    }
    shared.leave_sender(end, filling).unwrap();
}

fn await_settlement(world: &World, end: &SenderEnd, owner: Owner) {
    let settled = |()| end.settled(world.shared()).unwrap() != Settled::No;
    if tries().any(settled) {
        assert_eq!(end.taken(world.shared()), Ok(end.published_bytes()));
        world.shared().record(owner.worker).unwrap().opened();
    }
}

fn receive(world: &World, session: SessionRef, owner: Owner, random: &mut Random) {
    let shared = world.shared();
    let Some(mut end) = taken(shared.take_receiver(session, owner, false)) else { return };
    if tries().any(|()| shared.look(&end).unwrap().begun) {
        let patience = if random.below(8) == 0 { 3 } else { PATIENCE };
        receive_pieces(world, &mut end, patience);
    }
    shared.leave_receiver(end).unwrap();
}

fn receive_pieces(world: &World, end: &mut ReceiverEnd, patience: usize) {
    let (mut number, mut total) = (0, 0);
    for _ in 0..patience {
        let finish = end.finish(world.shared()).unwrap();
        if let Some(piece) = end.next(world.shared()).unwrap() {
            let bytes = world.segment.bytes(&piece);
            check(bytes, end.session(), number);
            (number, total) = (number + 1, total + bytes.len() as u64);
            end.ack_recv(world.shared()).unwrap();
        } else if finish == Finish::Whole(total) {
            end.count(world.shared(), total, total).unwrap();
            return end.settle(world.shared(), Settled::Sent).unwrap();
        } else {
            sched_yield().unwrap();
            assert!(matches!(finish, Finish::Open | Finish::Aborted), "{finish:?} at {total}");
        }
    }
}

/// Which session, and which chunk of its attempt.
fn mark(session: SessionRef, number: u64) -> [u8; 8] {
    (u64::from(session.generation) << 16 | u64::from(session.slot) << 8 | number).to_le_bytes()
}

fn fill(bytes: &mut [u8], session: SessionRef, number: u64) {
    bytes.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&mark(session, number)));
}

fn check(bytes: &[u8], session: SessionRef, number: u64) {
    let mark = mark(session, number);
    assert!(bytes.chunks_exact(8).all(|word| word == mark), "foreign bytes in {session:?}");
}
