//! The attacks, as a table.

use std::time::Duration;

/// An attack.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// The name of the scene.
    pub name: &'static str,
    /// Where the attackers come from.
    pub whence: Whence,
    /// The work that each attacker repeats.
    pub act: Act,
    /// Whether it is run over TLS as well.
    pub tls: bool,
}

/// The attackers' addresses, which they share evenly.
#[derive(Clone, Copy, Debug)]
pub enum Whence {
    /// So many IPv4 addresses.
    Addresses(u8),
    /// An IPv6 network of 64 bits for each attacker, all of one network of 48 bits. A balancer names them.
    OneSite,
}

/// The work of an attacker.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Sends to itself, through a session of its own, as much as the relay takes. This takes two connections.
    Pair(Body, Reader),
    /// Asks for sessions as fast as it can, leaves them unused, and asks again each second. So many are asked for by all
    /// of them in the first second.
    TakeSessions(usize),
    /// Takes all sessions, and then asks for more without end, so many requests at a time on one connection.
    Hammer(usize),
    /// Sends a long head, byte by byte.
    HeadByByte,
    /// Sends a body of junk to a session that there is not, and goes on sending after it was refused.
    SendOn,
    /// Opens connections, so many by all of them, and keeps each by a byte now and then.
    Keep(usize),
    /// The same, and opens more, one after the other, and reads nothing from them: those that are turned away stay.
    Crowd(usize),
    /// Connects, has new keys for TLS agreed on, and leaves.
    Shake,
    /// Asks with all the others for one place that is taken.
    Knock,
}

/// The bytes that the sender of an attacker's pair sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Long chunks: it goes by the relay's chunks.
    Chunked,
    /// So many bytes that there is no end: it may go by pipes.
    Length,
    /// Chunks of one byte each.
    TinyChunks,
    /// A length, and each byte in a TLS record of its own.
    TinyRecords,
}

/// How the receiver of an attacker's pair reads.
#[derive(Clone, Copy, Debug)]
pub enum Reader {
    /// All there is.
    Fast,
    /// So many bytes, and nothing for so long.
    Slow {
        /// Bytes in a row.
        bytes: usize,
        /// How long it waits then.
        pause: Duration,
        /// The receive buffer; `None`: as the kernel has it.
        window: Option<usize>,
    },
    /// Reads nothing, and after so long both leave and begin again with the same session.
    Returns(Duration),
}

const fn slow(bytes: usize, pause_ms: u64) -> Reader {
    Reader::Slow { bytes, pause: Duration::from_millis(pause_ms), window: None }
}

const fn narrow(bytes: usize, pause_ms: u64) -> Reader {
    Reader::Slow { bytes, pause: Duration::from_millis(pause_ms), window: Some(2048) }
}

const fn scene(name: &'static str, whence: Whence, act: Act, tls: bool) -> Scene {
    Scene { name, whence, act, tls }
}

impl Act {
    /// How many connections one attacker has at a time, where their number is not a part of what it does.
    pub(crate) fn connections(self) -> usize {
        if let Self::Pair(..) = self { 2 } else { 1 }
    }
}

impl Scene {
    /// The scene of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENES.iter().find(|scene| scene.name == name)
    }
}

use Act::{Crowd, Hammer, HeadByByte, Keep, Knock, Pair, SendOn, Shake, TakeSessions};
use Body::{Chunked, Length, TinyChunks, TinyRecords};
use Reader::Fast;
use Whence::OneSite;

const EIGHT: Whence = Whence::Addresses(8);
const FOURTEEN: Whence = Whence::Addresses(14);
const BRIEF: Reader = Reader::Returns(Duration::from_millis(1500));
/// More sessions than there are by default, and more connections.
const ALL_SESSIONS: usize = 16_000;
const ALL_CONNECTIONS: usize = 9_000;

/// All of them.
#[rustfmt::skip]
pub const SCENES: &[Scene] = &[
    //    name                      whence    act                                TLS too
    // Chunks and pipes are held.
    scene("stalled",                EIGHT,    Pair(Chunked, slow(4096, 20_000)),    true),
    scene("stalled_with_length",    EIGHT,    Pair(Length, slow(4096, 20_000)),     true),
    scene("stalled_of_one_site",    OneSite,  Pair(Chunked, slow(4096, 20_000)),    false),
    scene("trickling",              EIGHT,    Pair(Chunked, slow(64, 250)),         true),
    scene("narrow_windows",         EIGHT,    Pair(Chunked, narrow(256, 1000)),     false),
    scene("bursts_of_five_seconds", EIGHT,    Pair(Chunked, slow(256 << 10, 4500)), false),
    scene("bursts_of_ten_seconds",  EIGHT,    Pair(Chunked, slow(256 << 10, 9500)), false),
    scene("aborts_and_returns",     EIGHT,    Pair(Chunked, BRIEF),                 true),
    scene("returns_with_length",    EIGHT,    Pair(Length, BRIEF),                  false),
    // Sessions are taken.
    scene("sessions_of_eight",      EIGHT,    TakeSessions(ALL_SESSIONS),           false),
    scene("sessions_of_fourteen",   FOURTEEN, TakeSessions(ALL_SESSIONS),           true),
    scene("sessions_of_one_site",   OneSite,  TakeSessions(ALL_SESSIONS),           false),
    // Refusals are asked for.
    scene("hammering",              FOURTEEN, Hammer(1),                            true),
    scene("hammering_in_a_row",     FOURTEEN, Hammer(64),                           true),
    // Work is made.
    scene("heads_by_byte",          EIGHT,    HeadByByte,                           true),
    scene("sending_on",             EIGHT,    SendOn,                               true),
    scene("tiny_chunks",            EIGHT,    Pair(TinyChunks, Fast),               true),
    scene("tiny_records",           EIGHT,    Pair(TinyRecords, Fast),              true),
    scene("knocking",               EIGHT,    Knock,                                false),
    scene("handshakes",             EIGHT,    Shake,                                true),
    // Connections are kept.
    scene("kept",                   EIGHT,    Keep(ALL_CONNECTIONS),                true),
    scene("kept_of_one_site",       OneSite,  Keep(ALL_CONNECTIONS),                false),
    scene("crowding",               EIGHT,    Crowd(ALL_CONNECTIONS),               true),
];
