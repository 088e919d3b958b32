//! A lane: one direction of a session, as it lies in shared memory.
//!
//! The state word decides who may touch what. While the sender's place is held, the sender alone writes its line, the
//! entries and the announcement. While the receiver's place is held, the receiver alone writes its line. The
//! exception is `waits`, which the other end takes back when it rings. The end that leaves an attempt last wipes both
//! lines before it frees the places. Any process may write `rivals` and the waiters.

use crate::finish::{Finish, Settled};
use crate::ids::{Owner, Role, Tag};
use crate::place::{LaneWord, Place, State};
use crate::refusal::Refusal;
use crate::resume::{PassedWords, ToldWord, WantWords};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence, look};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64 as PlainU64, Ordering as PlainOrdering};

/// Chunks that one lane can hold at a time, at most: the number of its entries.
pub const LANE_CHUNKS_MAX: usize = 16;

/// Bytes that a sender can announce to its receiver before the first chunk.
pub const ANNOUNCEMENT_BYTES_MAX: usize = 640;

const ANNOUNCEMENT_WORDS: usize = ANNOUNCEMENT_BYTES_MAX / 8;

/// A direction of a session, in shared memory.
#[derive(Debug)]
#[repr(C)]
pub struct Lane {
    pub(crate) word: AtomicU64,
    /// The rivals for the sender's and the receiver's place, whose holder may be dead, as the caller names them; 0:
    /// no rival. Processes change them by swaps alone, as [`Waits`].
    rivals: [AtomicU64; 2],
    waiters: [Waiter; 2],
    /// The guest as whom the receiver may use the session, as the caller names it; 0: the receiver is no guest.
    pub(crate) receiver_guest: AtomicU64,
    /// When the sender and the receiver were paired, in milliseconds of the caller's clock.
    pub(crate) paired_ms: AtomicU64,
    announcement_bytes: AtomicU64,
    announcement: [AtomicU64; ANNOUNCEMENT_WORDS],
    /// Entry i describes the chunks published as number i, i + capacity, ...
    entries: [AtomicU64; LANE_CHUNKS_MAX],
    /// A digest of each entry, the attempt and the chunk's number. A descriptor that was scribbled on, or that an
    /// earlier round left here, does not pass, so the receiver sees no byte that was not published.
    seals: [AtomicU32; LANE_CHUNKS_MAX],
    pub(crate) sender: CachePadded<SenderLine>,
    pub(crate) receiver: CachePadded<ReceiverLine>,
}

#[cfg(not(loom))]
crate::fields::fields!(Lane {
    word,
    rivals,
    waiters,
    receiver_guest,
    paired_ms,
    announcement_bytes,
    announcement,
    entries,
    seals,
    sender,
    receiver
});

/// The sender's line: the sender's worker writes it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SenderLine {
    /// Chunks published in this attempt.
    pub(crate) published: AtomicU64,
    /// How the sender's bytes ended: an encoded [`Finish`].
    pub(crate) finish: AtomicU64,
    /// The sender's wait for room.
    pub(crate) waits: Waits,
    /// 1: the attempt has not begun, and the sender still reads bytes that its receiver has already.
    pub(crate) skips: PlainU64,
    /// Whether the sender of the session that is over knows that all was delivered.
    pub(crate) told: ToldWord,
}

#[cfg(not(loom))]
crate::fields::fields!(SenderLine { published, finish, waits, skips, told });

/// The receiver's line: the receiver's worker writes it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ReceiverLine {
    /// AckRecv: the receiver's socket took the first so many published chunks, and the sender may write them again.
    pub(crate) released: AtomicU64,
    /// Payload bytes that the receiver's kernel socket took.
    pub(crate) taken: AtomicU64,
    /// Payload bytes that the receiver's TCP acknowledged.
    pub(crate) delivered: AtomicU64,
    /// How much the receiver's side vouches for: an encoded [`Settled`].
    pub(crate) settled: AtomicU64,
    /// 1: the sender may put payload into pipes.
    pub(crate) takes_pipes: AtomicU64,
    /// The receiver's wait for a chunk.
    pub(crate) waits: Waits,
    /// The part that the receiver asks for.
    pub(crate) want: WantWords,
    /// The file or stream that has passed in this session. This stays from one attempt to the next.
    pub(crate) passed: PassedWords,
}

#[cfg(not(loom))]
crate::fields::fields!(ReceiverLine {
    released,
    taken,
    delivered,
    settled,
    takes_pipes,
    waits,
    want,
    passed
});

/// Announces that an end sleeps until the other end does something. Processes change the word by swaps alone: stores
/// would do, but loom does not order a store after the swap that it follows.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Waits(AtomicU32);

impl Waits {
    /// Announces the wait. The caller must look once more at what it waits for, and `cancel` if that is there.
    pub(crate) fn announce(&self) {
        self.0.swap(1, Ordering::SeqCst);
        // Pairs with the fence in `take`: the announcement comes before the second look.
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub(crate) fn cancel(&self) {
        self.0.swap(0, Ordering::Relaxed);
    }

    /// Clears the word while no other process looks at it.
    fn wipe(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether the other end waits; it is told of the news once. The caller stores the news first.
    pub(crate) fn take(&self) -> bool {
        // Pairs with the fence in `announce`: the news comes before the look at the announcement.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::SeqCst) == 1 && self.0.swap(0, Ordering::SeqCst) == 1
    }
}

/// The worker that wants to hear when a place may be free: an owner and a bit above it, or 0. Only the latest worker
/// to register is told; the others ask again by themselves.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Waiter(AtomicU64);

const WAITING: u64 = 1 << 16;

impl Waiter {
    /// Asks to be told. The caller must then try once more to take the place.
    pub(crate) fn register(&self, owner: Owner) {
        self.0.swap(WAITING | owner.to_bits(), Ordering::SeqCst);
        // Pairs with the fence in `take`: the registration comes before the second try.
        fence(Ordering::SeqCst);
    }

    /// Takes the waiter that has to be told, once. The caller has left the place first.
    pub(crate) fn take(&self) -> Option<Owner> {
        // Pairs with the fence in `register`: the place is left before the look at the waiter.
        fence(Ordering::SeqCst);
        if self.0.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let word = self.0.swap(0, Ordering::SeqCst);
        (word & WAITING != 0).then(|| Owner::from_bits(word))
    }
}

/// How a leave went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The attempt had not begun. The other end, if there is one, goes on waiting.
    Unbegun,
    /// The other end is still in the attempt and cleans up when it leaves.
    PeerRemains(Owner),
    /// The other end is gone, or lost; our place is still held, so that the cleaning has an owner.
    Last(State),
}

impl Lane {
    /// A lane that no party can enter: zeroed memory is one.
    #[must_use]
    pub fn new() -> Self {
        let word = || AtomicU64::new(0);
        let waits = || Waits(AtomicU32::new(0));
        Self {
            word: word(),
            rivals: [word(), word()],
            waiters: [Waiter(word()), Waiter(word())],
            receiver_guest: word(),
            paired_ms: word(),
            announcement_bytes: word(),
            announcement: std::array::from_fn(|_| word()),
            entries: std::array::from_fn(|_| word()),
            seals: std::array::from_fn(|_| AtomicU32::new(0)),
            sender: CachePadded::new(SenderLine {
                published: word(),
                finish: word(),
                waits: waits(),
                skips: PlainU64::new(0),
                told: ToldWord::default(),
            }),
            receiver: CachePadded::new(ReceiverLine {
                released: word(),
                taken: word(),
                delivered: word(),
                settled: word(),
                takes_pipes: word(),
                waits: waits(),
                want: WantWords::default(),
                passed: PassedWords::default(),
            }),
        }
    }

    pub(crate) fn load(&self) -> Result<LaneWord, Refusal> {
        LaneWord::decode(look(&self.word))
    }

    /// The word, while `owner` holds the place of `role`. Refused once it no longer does.
    pub(crate) fn held_word(&self, role: Role, owner: Owner) -> Result<LaneWord, Refusal> {
        let word = self.load()?;
        if word.place(role).is_held_by(owner) {
            return Ok(word);
        }
        Err(Refusal::NotOurs(word.encode()))
    }

    pub(crate) fn swap(&self, old: LaneWord, new: LaneWord) -> bool {
        let (old, new) = (old.encode(), new.encode());
        self.word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Leaves the place of `role`, which `owner` must hold. `as_state` is what the other end is to
    /// find: `Gone` from the holder itself, `Lost` from the master on behalf of the dead.
    pub(crate) fn leave(&self, role: Role, owner: Owner, as_state: State) -> Result<Left, Refusal> {
        loop {
            let word = self.load()?;
            if !word.place(role).is_held_by(owner) {
                return Err(Refusal::NotOurs(word.encode()));
            }
            // Cleared before the next holder can come and write its own.
            match role {
                Role::Receiver => {
                    self.receiver.want.clear();
                    self.receiver_guest.store(0, Ordering::SeqCst);
                }
                Role::Sender => self.sender.skips.store(0, PlainOrdering::Relaxed),
            }
            let (place, left) = match word.peer(role) {
                _ if !word.begun => (Place::EMPTY, Left::Unbegun),
                peer if peer.state == State::Held => {
                    let place = Place { state: as_state, ..word.place(role) };
                    (place, Left::PeerRemains(peer.owner))
                }
                peer => return Ok(Left::Last(peer.state)),
            };
            if self.swap(word, word.with(role, place)) {
                return Ok(left);
            }
        }
    }

    /// Frees both places for the next attempt. Only the last leaver calls this, while it still holds its place.
    pub(crate) fn reset(&self, role: Role, owner: Owner) -> Result<(), Refusal> {
        let word = self.load()?;
        if !word.begun || !word.place(role).is_held_by(owner) {
            return Err(Refusal::NotOurs(word.encode()));
        }
        self.wipe();
        if self.swap(word, LaneWord::empty(word.next_attempt())) {
            return Ok(());
        }
        Err(Refusal::NotOurs(self.word.load(Ordering::Relaxed)))
    }

    /// Sets both ends' lines to the beginning of an attempt.
    pub(crate) fn wipe(&self) {
        let SenderLine { published, finish, waits: sender_waits, skips, told: _ } = &*self.sender;
        let ReceiverLine {
            released,
            taken,
            delivered,
            settled,
            takes_pipes,
            waits,
            want,
            passed: _,
        } = &*self.receiver;
        for word in [published, finish, released, taken, delivered, settled, takes_pipes] {
            word.store(0, Ordering::Relaxed);
        }
        sender_waits.wipe();
        waits.wipe();
        want.clear();
        skips.store(0, PlainOrdering::Relaxed);
    }

    /// Describes the chunk that will be published as `number`.
    pub(crate) fn set_entry(&self, number: u64, descriptor: u64, tag: Tag) {
        let index = index(number);
        if let (Some(entry), Some(mark)) = (self.entries.get(index), self.seals.get(index)) {
            entry.store(descriptor, Ordering::Relaxed);
            mark.store(seal(number, descriptor, tag), Ordering::Relaxed);
        }
    }

    /// Makes the descriptor of chunk `number` void. The sender does so before the chunk may serve another lane.
    pub(crate) fn void_entry(&self, number: u64) {
        if let Some(mark) = self.seals.get(index(number)) {
            mark.store(!mark.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The descriptor of the chunk that was published as `number`.
    pub(crate) fn entry(&self, number: u64, tag: Tag) -> Result<u64, Refusal> {
        let index = index(number);
        let found = self.entries.get(index).zip(self.seals.get(index));
        let (entry, mark) = found.ok_or(Refusal::Descriptor(u64::MAX))?;
        let descriptor = entry.load(Ordering::Relaxed);
        if mark.load(Ordering::Relaxed) == seal(number, descriptor, tag) {
            return Ok(descriptor);
        }
        Err(Refusal::Descriptor(descriptor))
    }

    /// The descriptor of the chunk that was published as `number` and not made void.
    pub(crate) fn left_entry(&self, number: u64, tag: Tag) -> Result<Option<u64>, Refusal> {
        let index = index(number);
        let found = self.entries.get(index).zip(self.seals.get(index));
        let (entry, mark) = found.ok_or(Refusal::Descriptor(u64::MAX))?;
        let descriptor = entry.load(Ordering::Relaxed);
        let (mark, seal) = (mark.load(Ordering::Relaxed), seal(number, descriptor, tag));
        if mark != seal && mark != !seal {
            return Err(Refusal::Descriptor(descriptor));
        }
        Ok((mark == seal).then_some(descriptor))
    }

    /// Writes the bytes that the receiver needs before the first chunk, cut at [`ANNOUNCEMENT_BYTES_MAX`].
    pub(crate) fn announce(&self, bytes: &[u8]) {
        let bytes = bytes.get(..ANNOUNCEMENT_BYTES_MAX).unwrap_or(bytes);
        for (word, piece) in self.announcement.iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        self.announcement_bytes.store(bytes.len() as u64, Ordering::Relaxed);
    }

    /// The bytes that the sender announced. Precondition: the attempt has begun.
    pub(crate) fn announcement(&self) -> Result<Vec<u8>, Refusal> {
        let high = ANNOUNCEMENT_BYTES_MAX as u64;
        let found = self.announcement_bytes.load(Ordering::Relaxed);
        let length = usize::try_from(found).ok().filter(|n| *n <= ANNOUNCEMENT_BYTES_MAX);
        let length = length.ok_or(Refusal::Count { found, high })?;
        let words = self.announcement.iter().take(length.div_ceil(8));
        let mut bytes: Vec<u8> =
            words.flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        bytes.truncate(length);
        Ok(bytes)
    }

    pub(crate) fn rival(&self, role: Role) -> &AtomicU64 {
        let [sender, receiver] = &self.rivals;
        match role {
            Role::Sender => sender,
            Role::Receiver => receiver,
        }
    }

    pub(crate) fn waiter(&self, role: Role) -> &Waiter {
        let [sender, receiver] = &self.waiters;
        match role {
            Role::Sender => sender,
            Role::Receiver => receiver,
        }
    }

    pub(crate) fn finish(&self) -> Finish {
        Finish::decode(self.sender.finish.load(Ordering::Acquire))
    }

    pub(crate) fn set_finish(&self, finish: Finish) {
        self.sender.finish.store(finish.encode(), Ordering::Release);
    }

    pub(crate) fn settled(&self) -> Settled {
        match self.receiver.settled.load(Ordering::Acquire) {
            1 => Settled::Sent,
            2 => Settled::Acked,
            _ => Settled::No,
        }
    }

    pub(crate) fn settle(&self, settled: Settled) {
        let word = match settled {
            Settled::No => 0,
            Settled::Sent => 1,
            Settled::Acked => 2,
        };
        self.receiver.settled.store(word, Ordering::Release);
    }
}

/// The entry of the chunk that is published as `number`.
pub(crate) fn index(number: u64) -> usize {
    usize::try_from(number % LANE_CHUNKS_MAX as u64).unwrap_or_default()
}

/// Mixes its arguments: a change of one of them leaves the seal as it was once in 2^32 times. The seal guards against
/// accidents and scribbles; a process that means to forge it can.
fn seal(number: u64, descriptor: u64, tag: Tag) -> u32 {
    let mix = |seed: u64, word: u64| {
        let product = (seed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        product ^ product >> 32
    };
    (mix(mix(mix(!0, number), descriptor), tag.to_bits()) >> 32) as u32
}

impl Default for Lane {
    fn default() -> Self {
        Self::new()
    }
}
