//! The shared memory that workers relay through: sessions, lanes, chunks, AckRecv, doorbells.
//!
//! One sealed memfd, mapped before the fork. Two workers meet in a session's slot, the sender's
//! worker receives from its socket straight into a chunk and publishes it, the receiver's worker
//! writes it to its socket straight from there and sets AckRecv, and only then may the chunk be
//! written again. The crate knows nothing of HTTP, of event loops or of configuration.
//!
//! What must always hold:
//! - No lock and no list lives in the segment. Every step is one compare-and-swap on a word that
//!   says who made it, so a process may die between any two steps and the master can
//!   [sweep](Shared::sweep) what it owned.
//! - Nothing that was read from the segment is used before it was checked; what does not fit is a
//!   [`Refusal`].
//! - A chunk belongs to one attempt of one lane, by its tag. It is given back by the sender's side
//!   when AckRecv is set, and otherwise by whoever leaves the attempt last. So does a pipe, of which only
//!   the tag is here; but one whose receiver has not taken all of it is given back as one to be emptied.
//! - What one address has at once is limited by the seats it may sit on, never by a count.
//!
//! `unsafe` lives in [`Segment`] alone.

mod account;
mod bandwidth;
mod doorbell;
mod ends;
mod guesses;
mod holdings;
mod issue;
mod lane;
#[cfg(not(loom))]
mod layout;
mod permit;
mod place;
mod pool;
mod record;
mod refusal;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod segment;
mod shared;
mod slot;
mod survey;
mod sweep;
mod sync;
mod ticket_keys;

pub use account::{Account, Payer, Share};
pub use bandwidth::{Bandwidth, Rate};
pub use doorbell::Doorbell;
pub use ends::{
    Filling, LANE_PIPES_MAX, LaneEnd, PIPE_BYTES_MAX, Piece, ReceiverEnd, SenderEnd, TakenBack,
};
pub use guesses::Guesses;
pub use lane::{ANNOUNCEMENT_BYTES_MAX, Finish, LANE_CHUNKS_MAX, Lane, Settled};
#[cfg(not(loom))]
pub use layout::{
    CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CONNECTIONS_MAX, Geometry, GeometryError, PIPES_MAX,
    SESSIONS_MAX,
};
pub use permit::{HeldPermits, Permit, Permits, Quota, Quotas};
pub use place::{LaneWord, Owner, Place, Role, State, WORKER_RECORDS_MAX, WorkerId};
pub use pool::{Pool, PoolWords, Vessel};
pub use record::{Counters, Phase, TALLIES, WorkerRecord};
pub use refusal::Refusal;
#[cfg(not(loom))]
pub use segment::{AttachError, CreateError, SECRET_BYTES, Segment};
pub use shared::{Found, Parts, Shared, TakeError};
pub use slot::{Digest, Direction, End, LaneRef, Life, SessionRef, Slot, Terms};
pub use survey::{LaneSight, Sight};
pub use sweep::Census;
pub use ticket_keys::{TICKET_KEY_BYTES, TicketKeys};
