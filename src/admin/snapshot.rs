//! A snapshot of shared memory, from which metrics and status are made.
//!
//! The snapshot takes no lock, so its parts are some milliseconds apart. It leaves out words that make no sense,
//! which a worker may have overwritten.

use crate::api::ApiName;
use crate::session::{Kind, SessionHash};
use crate::tally::Tally;
use shm::{
    Counters, Direction, End, Geometry, LaneView, Life, Phase, Segment, SlotView, State, TALLIES,
    WORKER_RECORDS_MAX, WorkerId,
};
use std::time::SystemTime;

/// The most running transfers that are listed; more are only counted.
pub(super) const TRANSFERS_SHOWN_MAX: usize = 100;

/// The relay's state at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) geometry: Geometry,
    pub(super) segment_bytes: usize,
    pub(super) chunks_held: usize,
    pub(super) pipes_held: usize,
    pub(super) pipes_dirty: usize,
    /// Every worker that lives or has lived.
    pub(super) workers: Vec<Worker>,
    /// Counters summed over all workers.
    pub(super) counters: Counters,
    tallies: [u64; TALLIES],
    /// Sessions that ended to make room, which no tally counts.
    reclaimed: u64,
    /// Sessions among them whose lifetime was not over.
    displaced: u64,
    /// Sessions that live, by [`Kind::ALL`].
    pub(super) sessions: [usize; Kind::ALL.len()],
    /// Expired sessions that nobody is in: each ends when its slot is needed.
    pub(super) sessions_expired: usize,
    /// Sessions that have ended while a party has not left yet.
    pub(super) sessions_ending: usize,
    pub(super) senders_waiting: usize,
    pub(super) receivers_waiting: usize,
    /// Running transfers, by [`ApiName::ALL`].
    pub(super) running: [usize; ApiName::ALL.len()],
    /// The first [`TRANSFERS_SHOWN_MAX`] of those.
    pub(super) transfers: Vec<Transfer>,
    /// Certificates of the listeners. The segment does not have them: the caller adds them.
    pub(super) certificates: Vec<Certificate>,
}

/// A listener's certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The address of the listener.
    pub listener: String,
    /// The end of its validity.
    pub ends: SystemTime,
}

/// A worker's record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    pub(super) id: usize,
    pub(super) phase: Phase,
    pub(super) epoch: u32,
    pub(super) counters: Counters,
}

/// A transfer that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) session: SessionHash,
    pub(super) slot: u32,
    pub(super) kind: Kind,
    pub(super) direction: Direction,
    pub(super) sender_worker: usize,
    pub(super) receiver_worker: usize,
    pub(super) bytes: u64,
    pub(super) age_ms: u64,
}

/// Whether a worker serves new connections. Asked often, so it reads nothing else.
#[must_use]
pub(super) fn is_ready(segment: &Segment) -> bool {
    let records = (0..WORKER_RECORDS_MAX).filter_map(WorkerId::new);
    let mut records = records.filter_map(|id| segment.shared().record(id));
    records.any(|record| record.phase() == Phase::Serving)
}

impl Snapshot {
    pub(super) fn take(segment: &Segment, now_ms: u64) -> Self {
        let shared = segment.shared();
        let mut snapshot = Self {
            geometry: segment.geometry(),
            segment_bytes: segment.len(),
            chunks_held: shared.pool().held(),
            pipes_held: shared.pool().pipes_held(),
            pipes_dirty: shared.pool().pipes_dirty(),
            workers: Vec::new(),
            certificates: Vec::new(),
            counters: Counters::default(),
            tallies: [0; TALLIES],
            reclaimed: 0,
            displaced: 0,
            sessions: [0; Kind::ALL.len()],
            sessions_expired: 0,
            sessions_ending: 0,
            senders_waiting: 0,
            receivers_waiting: 0,
            running: [0; ApiName::ALL.len()],
            transfers: Vec::new(),
        };
        (0..WORKER_RECORDS_MAX).for_each(|index| snapshot.add_worker(segment, index));
        let secret = segment.secret();
        shared.slots().for_each(|slot| snapshot.add_session(&slot, &secret, now_ms));
        snapshot
    }

    /// How often all workers, living and dead, counted `tally`.
    pub(super) fn count(&self, tally: Tally) -> u64 {
        let counted = tally.of(&self.tallies);
        match tally {
            Tally::Ended(End::Expired) => counted.saturating_add(self.reclaimed),
            Tally::Ended(End::Displaced) => counted.saturating_add(self.displaced),
            _ => counted,
        }
    }

    pub(super) fn workers_in(&self, phase: Phase) -> usize {
        self.workers.iter().filter(|worker| worker.phase == phase).count()
    }

    fn add_worker(&mut self, segment: &Segment, id: usize) {
        let Some(record) = WorkerId::new(id).and_then(|it| segment.shared().record(it)) else {
            return;
        };
        let (counters, phase, epoch) = (record.counters(), record.phase(), record.epoch());
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        add(&mut self.counters.accepted, counters.accepted);
        add(&mut self.counters.open, counters.open);
        add(&mut self.counters.bytes_in, counters.bytes_in);
        add(&mut self.counters.bytes_out, counters.bytes_out);
        add(&mut self.counters.bytes_skipped, counters.bytes_skipped);
        add(&mut self.reclaimed, record.sessions_reclaimed());
        add(&mut self.displaced, record.sessions_displaced());
        self.tallies.iter_mut().zip(record.tallies()).for_each(|(to, more)| add(to, more));
        if phase != Phase::Absent || epoch > 0 {
            self.workers.push(Worker { id, phase, epoch, counters });
        }
    }

    fn add_session(&mut self, slot: &SlotView, secret: &[u8; 32], now_ms: u64) {
        let Some((at, kind)) = find(Kind::from_word(slot.kind)) else { return };
        let vacant = slot.lanes.iter().flatten().all(is_vacant);
        match slot.life {
            Life::Live if vacant && slot.expires_ms <= now_ms => self.sessions_expired += 1,
            Life::Live => bump(&mut self.sessions, at),
            Life::Ended(_) => self.sessions_ending += 1,
            // The slot is being issued: nobody knows of it yet, and its words are those of an earlier session.
            Life::Filling(_) | Life::Free => return,
        }
        for lane in slot.lanes.iter().flatten() {
            if lane.word.begun {
                let transfer = || Transfer {
                    session: SessionHash::new(secret, &slot.key),
                    slot: slot.session.slot,
                    kind,
                    direction: lane.at.direction,
                    sender_worker: lane.word.sender.owner.worker.index(),
                    receiver_worker: lane.word.receiver.owner.worker.index(),
                    bytes: lane.taken_bytes,
                    age_ms: now_ms.saturating_sub(lane.paired_ms),
                };
                self.add_transfer(kind, transfer);
            } else {
                self.senders_waiting += usize::from(lane.word.sender.state == State::Held);
                self.receivers_waiting += usize::from(lane.word.receiver.state == State::Held);
            }
        }
    }

    fn add_transfer(&mut self, kind: Kind, transfer: impl FnOnce() -> Transfer) {
        let api = match kind {
            Kind::Exchange => ApiName::Exchange,
            Kind::Basic | Kind::Secure | Kind::Nameplate => ApiName::Messages,
            Kind::Pair => ApiName::Pair,
        };
        bump(&mut self.running, api as usize);
        if self.transfers.len() < TRANSFERS_SHOWN_MAX {
            self.transfers.push(transfer());
        }
    }
}

fn find(kind: Option<Kind>) -> Option<(usize, Kind)> {
    let kind = kind?;
    Some((Kind::ALL.iter().position(|it| *it == kind)?, kind))
}

fn is_vacant(lane: &LaneView) -> bool {
    let held = |state| !matches!(state, State::Empty | State::Closed);
    !lane.word.begun && !held(lane.word.sender.state) && !held(lane.word.receiver.state)
}

fn bump(counts: &mut [usize], at: usize) {
    if let Some(count) = counts.get_mut(at) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{metrics, status};
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn segment() -> Segment {
        let wanted = shm::Wanted {
            sessions: Some(200),
            connections: 64,
            chunk_bytes: 4096,
            lane_chunks: 4,
            pipes: 0,
        };
        Segment::create(&Geometry::fit(8 << 20, wanted).unwrap()).unwrap()
    }

    #[test]
    fn nothing_is_there_before_anybody_came() {
        let segment = segment();
        assert!(!is_ready(&segment));
        let snapshot = Snapshot::take(&segment, 0);
        assert!(snapshot.workers.is_empty() && snapshot.transfers.is_empty());
        assert_eq!((snapshot.sessions, snapshot.chunks_held), ([0; 5], 0));
    }

    #[test]
    fn more_transfers_than_are_listed_are_counted() {
        let segment = segment();
        let shared = segment.shared();
        let owner = shm::Owner::new(WorkerId::new(3).unwrap(), 0);
        let terms = |kind| shm::Terms {
            key: [1; 32],
            token: [2; 32],
            kind,
            lifetime_ms: 1000,
            account: None,
        };
        for number in 0..150 {
            // The words of Kind: a message session for each five of the exchange.
            let kind = if number % 6 == 0 { 2 } else { 1 };
            let session = shared.issue(owner, &terms(kind), 0).unwrap();
            let lane = session.lane(Direction::Forth);
            let mut sender = shared.take_sender(lane, owner, false).unwrap();
            let mut receiver = shared.take_receiver(lane, owner, false).unwrap();
            sender.attach(shared).unwrap().note_pairing(500);
            shared.begin(&sender, b"").unwrap().unwrap();
            receiver.attach(shared).unwrap().count_taken(7);
        }
        // A transfer that has begun goes on, whatever its session's lifetime.
        let mut snapshot = Snapshot::take(&segment, 1500);
        let ends = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(86_400);
        snapshot.certificates = vec![Certificate { listener: "[::]:443".to_owned(), ends }];
        assert_eq!((snapshot.running, snapshot.sessions), ([125, 25, 0], [125, 25, 0, 0, 0]));
        assert_eq!(snapshot.transfers.len(), TRANSFERS_SHOWN_MAX);
        let Transfer { bytes, age_ms, sender_worker, .. } = snapshot.transfers[99];
        assert_eq!((bytes, age_ms, sender_worker), (7, 1000, 3));
        let said = status::StatusReport::new(&snapshot).to_string();
        let line = "the certificate of [::]:443 is good until Fri, 02 Jan 1970 00:00:00 GMT\n";
        assert!(said.contains(line), "{said}");
        assert!(said.contains("150 running (125 exchange, 25 messages, 0 pair)"), "{said}");
        assert!(said.ends_with("and 50 more; 100 are listed at most\n"), "{said}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn whatever_is_scribbled_over_the_segment_is_reported_somehow(
            words in proptest::collection::vec(
                prop_oneof![0_u64..8, any::<u64>(), (0_u64..8).prop_map(|high| high << 32 | 2)],
                4096,
            ),
            now_ms: u64,
        ) {
            let segment = segment();
            let file = File::from(segment.fd().try_clone_to_owned().unwrap());
            let noise: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            // All but the header, which is read once at the start.
            for at in (4096..segment.len()).step_by(noise.len()) {
                let most = noise.len().min(segment.len() - at);
                file.write_all_at(&noise[..most], at as u64).unwrap();
            }
            let report = status::StatusReport::new(&Snapshot::take(&segment, now_ms));
            prop_assert!(report.transfers.shown.len() <= TRANSFERS_SHOWN_MAX);
            prop_assert!(!report.to_string().is_empty());
            prop_assert!(metrics::write(Snapshot::take(&segment, now_ms)).is_ok());
        }
    }
}
