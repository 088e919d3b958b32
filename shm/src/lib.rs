//! The shared memory that workers relay through: sessions, lanes, chunks, AckRecv, doorbells.
//!
//! The segment is one sealed memfd, mapped before the fork. Two workers meet in a session's slot. The sender's worker
//! receives from its socket straight into a chunk and publishes it. The receiver's worker writes the chunk to its
//! socket straight from there and sets AckRecv. Only then may the chunk be written again. The crate knows nothing of
//! HTTP, of event loops or of configuration.
//!
//! Must always hold:
//! - No lock and no list lives in the segment. Every step is one compare-and-swap on a word that says who made it, so a
//!   process may die between any two steps, and the master can [sweep](Shared::sweep) what it owned.
//! - A process checks what it reads from the segment before it uses it. A value that the protocol does not allow is a
//!   [`Refusal`].
//! - A chunk belongs to one attempt of one lane, by its tag. The sender's side gives it back when AckRecv is set;
//!   otherwise the end that leaves the attempt last does. The same holds for a pipe, whose tag alone is here, but
//!   a pipe whose receiver has not taken all of it is given back as dirty.
//! - The seats of an address limit what it has at once. No count does.
//!
//! `unsafe` lives in [`Segment`] alone.

mod account;
mod bandwidth;
mod directory;
mod doorbell;
mod ends;
#[cfg(not(loom))]
mod fields;
#[cfg(not(loom))]
mod fingerprint;
mod finish;
mod guesses;
#[cfg(not(loom))]
mod header;
mod holdings;
mod ids;
mod issue;
mod lane;
#[cfg(not(loom))]
mod layout;
mod name;
mod past;
mod permit;
mod place;
mod places;
mod pool;
mod record;
mod refusal;
mod resume;
mod rivals;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod segment;
mod sessions;
mod share;
mod shared;
mod slot;
mod sweep;
mod sync;
mod ticket_keys;
mod views;

pub use account::{Account, Payer, Share};
pub use bandwidth::{Bandwidth, Rate};
pub use directory::{Directory, NameError, Named, Tentative};
pub use doorbell::Doorbell;
pub use ends::{
    LaneEnd, PIPE_BYTES_MAX, Published, Receiver, ReceiverEnd, Reserved, Sender, SenderEnd,
    TakenBack,
};
pub use finish::{Finish, Settled};
pub use guesses::Guesses;
#[cfg(not(loom))]
pub use header::SECRET_BYTES;
pub use ids::{
    AddressTag, Direction, LaneRef, Owner, Role, SessionRef, WORKER_RECORDS_MAX, WorkerId,
};
pub use lane::{ANNOUNCEMENT_BYTES_MAX, LANE_CHUNKS_MAX, Lane};
#[cfg(not(loom))]
pub use layout::{
    CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CONNECTIONS_MAX, Geometry, GeometryError, PIPES_MAX,
    SESSIONS_MAX, Wanted,
};
pub use name::Name;
pub use past::Past;
pub use permit::{HeldPermits, Permit, Permits, Quota, Quotas};
pub use place::{LaneWord, Place, State};
pub use places::TakeError;
pub use pool::{Buffer, Pool, PoolWords};
pub use record::{Counters, Phase, TALLIES, WorkerRecord};
pub use refusal::Refusal;
pub use resume::{Passed, PassedFile, Passing, Told, Want};
#[cfg(not(loom))]
pub use segment::{AttachError, CreateError, Segment};
pub use sessions::Found;
pub use share::LANE_PIPES_MAX;
pub use shared::{Parts, Shared};
pub use slot::{Digest, End, Life, Slot, Terms};
pub use sweep::Census;
pub use ticket_keys::{TICKET_KEY_BYTES, TicketKeys};
pub use views::{LaneView, SlotView};
