//! A lane: one direction of a session, as it lies in shared memory.
//!
//! The state word decides who may touch what. While the sender's place is held, its line, the
//! entries and the announcement are written by the sender alone, and the receiver's line by the
//! receiver alone, but for `waits`, which the other end takes back when it rings; whoever leaves an
//! attempt last wipes both lines before it frees the places. `rivals` and the knocks are anybody's.

use crate::place::{LaneWord, Owner, Place, Role, State};
use crate::pool::Tag;
use crate::refusal::Refusal;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence, look};
use crossbeam_utils::CachePadded;

/// Chunks that one lane can hold at a time, at most: the number of its entries.
pub const LANE_CHUNKS_MAX: usize = 16;

/// Bytes that a sender can announce to its receiver before the first chunk.
pub const ANNOUNCEMENT_BYTES_MAX: usize = 632;

const ANNOUNCEMENT_WORDS: usize = ANNOUNCEMENT_BYTES_MAX / 8;

/// One direction of a session, in shared memory.
#[derive(Debug)]
#[repr(C)]
pub struct Lane {
    pub(crate) word: AtomicU64,
    /// Who wants the sender's and the receiver's place from one that may be dead, as the caller names it;
    /// 0: nobody. Changed by swaps alone, as [`Waits`] is.
    rivals: [AtomicU64; 2],
    knocks: [Knock; 2],
    /// Who the receiver was let in as, as the caller names it; 0: as anybody.
    pub(crate) admitted: AtomicU64,
    /// When the two that hold the places met, in milliseconds of the caller's clock.
    pub(crate) met_ms: AtomicU64,
    /// 1: an attempt of this session has published payload. Stays from one attempt to the next.
    passed: AtomicU64,
    announcement_bytes: AtomicU64,
    announcement: [AtomicU64; ANNOUNCEMENT_WORDS],
    /// Entry i describes the chunks published as number i, i + capacity, ...
    entries: [AtomicU64; LANE_CHUNKS_MAX],
    /// A digest of each entry, the attempt and the chunk's number: a descriptor that was scribbled,
    /// or that an earlier round left here, does not pass, so no byte shows that was not published.
    seals: [AtomicU32; LANE_CHUNKS_MAX],
    pub(crate) sender: CachePadded<SenderLine>,
    pub(crate) receiver: CachePadded<ReceiverLine>,
}

/// What the sender's worker writes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SenderLine {
    /// Chunks published in this attempt.
    pub(crate) published: AtomicU64,
    /// How the sender's bytes ended: an encoded [`Finish`].
    pub(crate) finish: AtomicU64,
    /// The sender waits for room.
    pub(crate) waits: Waits,
}

/// What the receiver's worker writes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ReceiverLine {
    /// AckRecv: the first so many published chunks were taken by the receiver's socket, and may be
    /// written again.
    pub(crate) acked: AtomicU64,
    /// Payload bytes that the receiver's kernel socket took.
    pub(crate) taken: AtomicU64,
    /// Payload bytes that the receiver's TCP acknowledged.
    pub(crate) delivered: AtomicU64,
    /// What the receiver's side vouches for: an encoded [`Settled`].
    pub(crate) settled: AtomicU64,
    /// 1: what it gets may be in pipes.
    pub(crate) takes_pipes: AtomicU64,
    /// The receiver waits for a chunk.
    pub(crate) waits: Waits,
}

/// How a sender's bytes ended, as it tells its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// More may come.
    Open,
    /// All came: so many payload bytes.
    Whole(u64),
    /// No more will come, and what came is not whole.
    Aborted,
    /// Nothing will come, because there was no chunk to carry it.
    NoChunk,
}

impl Finish {
    fn encode(self) -> u64 {
        match self {
            Self::Open => 0,
            Self::Whole(total) => total << 2 | 1,
            Self::Aborted => 2,
            Self::NoChunk => 3,
        }
    }

    fn decode(word: u64) -> Self {
        match word & 3 {
            0 => Self::Open,
            1 => Self::Whole(word >> 2),
            2 => Self::Aborted,
            _ => Self::NoChunk,
        }
    }
}

/// What a receiver's side says of a whole transfer once it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing yet.
    No,
    /// The receiver's kernel socket took everything.
    Sent,
    /// The receiver's TCP acknowledged everything.
    Acked,
}

/// One end's word that it sleeps until the other does something. Changed by swaps alone: stores would
/// do, but loom does not order a store after the swap that it follows.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Waits(AtomicU32);

impl Waits {
    /// Announces the wait. The caller must look once more at what it waits for, and `cancel` if it
    /// is there.
    pub(crate) fn announce(&self) {
        self.0.swap(1, Ordering::SeqCst);
        // Pairs with the fence in `take`: the announcement comes before the second look.
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub(crate) fn cancel(&self) {
        self.0.swap(0, Ordering::Relaxed);
    }

    /// No announcement, where nobody else looks at it.
    fn wipe(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether the other end waits; of its news it is told once. To be called after the news is
    /// stored.
    pub(crate) fn take(&self) -> bool {
        // Pairs with the fence in `announce`: the news comes before the look at the announcement.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::SeqCst) == 1 && self.0.swap(0, Ordering::SeqCst) == 1
    }
}

/// Who wants to hear when a place may be free: an owner and a bit above it, or 0. The latest to knock
/// is told; others ask again by themselves.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Knock(AtomicU64);

const KNOCKED: u64 = 1 << 16;

impl Knock {
    /// Asks to be told. The caller must then try the place once more.
    pub(crate) fn knock(&self, owner: Owner) {
        self.0.swap(KNOCKED | owner.to_bits(), Ordering::SeqCst);
        // Pairs with the fence in `take`: the knock comes before the second try.
        fence(Ordering::SeqCst);
    }

    /// Who is to be told, once. To be called after the place was left.
    pub(crate) fn take(&self) -> Option<Owner> {
        // Pairs with the fence in `knock`: the place is left before the look at who knocked.
        fence(Ordering::SeqCst);
        if self.0.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let word = self.0.swap(0, Ordering::SeqCst);
        (word & KNOCKED != 0).then(|| Owner::from_bits(word))
    }
}

/// How a leave went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing had begun; the other end, if there is one, goes on waiting.
    Unbegun,
    /// The other end is still in the attempt and cleans up when it leaves.
    PeerRemains(Owner),
    /// The other end is gone, or lost; our place is still held, so that the cleaning has an owner.
    Last(State),
}

impl Lane {
    /// A lane that nobody can enter, as zeroed memory is one.
    #[must_use]
    pub fn new() -> Self {
        let word = || AtomicU64::new(0);
        let waits = || Waits(AtomicU32::new(0));
        Self {
            word: word(),
            rivals: [word(), word()],
            knocks: [Knock(word()), Knock(word())],
            admitted: word(),
            met_ms: word(),
            passed: word(),
            announcement_bytes: word(),
            announcement: std::array::from_fn(|_| word()),
            entries: std::array::from_fn(|_| word()),
            seals: std::array::from_fn(|_| AtomicU32::new(0)),
            sender: CachePadded::new(SenderLine {
                published: word(),
                finish: word(),
                waits: waits(),
            }),
            receiver: CachePadded::new(ReceiverLine {
                acked: word(),
                taken: word(),
                delivered: word(),
                settled: word(),
                takes_pipes: word(),
                waits: waits(),
            }),
        }
    }

    pub(crate) fn load(&self) -> Result<LaneWord, Refusal> {
        LaneWord::decode(look(&self.word))
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

    /// Frees both places for the next attempt. For the last leaver, whose place is still held.
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
        let SenderLine { published, finish, waits: sender_waits } = &*self.sender;
        let ReceiverLine { acked, taken, delivered, settled, takes_pipes, waits } = &*self.receiver;
        for word in [published, finish, acked, taken, delivered, settled, takes_pipes] {
            word.store(0, Ordering::Relaxed);
        }
        sender_waits.wipe();
        waits.wipe();
    }

    /// Notes that payload passes in this session.
    pub(crate) fn note_passing(&self) {
        self.passed.store(1, Ordering::Relaxed);
    }

    pub(crate) fn has_passed(&self) -> bool {
        self.passed.load(Ordering::Relaxed) != 0
    }

    /// A new session begins: nothing has passed in it.
    pub(crate) fn forget_passing(&self) {
        self.passed.store(0, Ordering::Relaxed);
    }

    /// Describes the chunk that will be published as `number`.
    pub(crate) fn set_entry(&self, number: u64, descriptor: u64, tag: Tag) {
        let index = index(number);
        if let (Some(entry), Some(mark)) = (self.entries.get(index), self.seals.get(index)) {
            entry.store(descriptor, Ordering::Relaxed);
            mark.store(seal(number, descriptor, tag), Ordering::Relaxed);
        }
    }

    /// Makes the descriptor of chunk `number` void, before its chunk may serve another.
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

    /// Writes what the receiver is to know before the first chunk; cut at
    /// [`ANNOUNCEMENT_BYTES_MAX`].
    pub(crate) fn announce(&self, bytes: &[u8]) {
        let bytes = bytes.get(..ANNOUNCEMENT_BYTES_MAX).unwrap_or(bytes);
        for (word, piece) in self.announcement.iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        self.announcement_bytes.store(bytes.len() as u64, Ordering::Relaxed);
    }

    /// What the sender announced. To be read once the attempt has begun.
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

    pub(crate) fn knock(&self, role: Role) -> &Knock {
        let [sender, receiver] = &self.knocks;
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

/// Mixes its arguments so that a change of one leaves the seal as it was once in 2^32 times. Guards
/// against accidents and scribbles; whoever means to forge it can.
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
