//! `/status`: the snapshot as a JSON document, for programs and for `idontstore status`.

use super::snapshot::{Certificate, Snapshot, TRANSFERS_SHOWN_MAX, Transfer, Worker};
use crate::api::ApiName;
use crate::session::Kind;
use serde::{Deserialize, Serialize};
use shm::{Direction, Phase};
use std::collections::BTreeMap;

/// The document.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct StatusReport {
    pub(super) version: String,
    pub(super) ready: bool,
    pub(super) workers: Vec<WorkerReport>,
    pub(super) sessions: Sessions,
    pub(super) waits: Waits,
    pub(super) transfers: Transfers,
    pub(super) memory: Memory,
    /// Certificates of listeners that speak TLS.
    #[serde(default)]
    pub(super) certificates: Vec<CertificateReport>,
}

/// A listener's certificate.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct CertificateReport {
    /// The address of the listener.
    pub(super) listener: String,
    /// The end of its validity, as an HTTP date.
    pub(super) ends: String,
}

/// A worker.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct WorkerReport {
    pub(super) worker: usize,
    pub(super) state: String,
    /// Processes that had this number and have ended.
    pub(super) epoch: u32,
    pub(super) connections_open: u64,
    /// The sum over all processes that had this number, as for what follows.
    pub(super) connections_accepted: u64,
    pub(super) payload_received_bytes: u64,
    pub(super) payload_sent_bytes: u64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Sessions {
    /// Number by kind.
    pub(super) live: BTreeMap<String, usize>,
    /// Sessions whose lifetime is over; they end when their slots are needed.
    pub(super) expired: usize,
    /// Sessions that are over while a party has not left yet.
    pub(super) ending: usize,
    pub(super) max: u32,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Waits {
    pub(super) senders: usize,
    pub(super) receivers: usize,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Transfers {
    /// Number by API.
    pub(super) running: BTreeMap<String, usize>,
    /// The most that are listed.
    pub(super) shown_max: usize,
    pub(super) shown: Vec<TransferReport>,
}

/// A running transfer.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct TransferReport {
    /// A keyed hash: nobody is told a key.
    pub(super) session: String,
    pub(super) slot: u32,
    pub(super) kind: String,
    pub(super) direction: String,
    pub(super) sender_worker: usize,
    pub(super) receiver_worker: usize,
    /// Payload that the receiver's kernel socket took.
    pub(super) bytes: u64,
    /// Since the two met.
    pub(super) age_seconds: f64,
    /// On average.
    pub(super) bytes_per_second: u64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Memory {
    pub(super) segment_bytes: usize,
    pub(super) chunk_bytes: usize,
    pub(super) chunks: u32,
    pub(super) chunks_held: usize,
    pub(super) lane_chunks_max: usize,
}

impl StatusReport {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let geometry = snapshot.geometry;
        let live = Kind::ALL.iter().map(|kind| kind.label().to_owned()).zip(snapshot.sessions);
        let running = ApiName::ALL.iter().map(|api| api.label().to_owned()).zip(snapshot.running);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: snapshot.workers_in(Phase::Serving) > 0,
            workers: snapshot.workers.iter().map(WorkerReport::new).collect(),
            sessions: Sessions {
                live: live.collect(),
                expired: snapshot.sessions_expired,
                ending: snapshot.sessions_ending,
                max: geometry.sessions,
            },
            waits: Waits {
                senders: snapshot.senders_waiting,
                receivers: snapshot.receivers_waiting,
            },
            transfers: Transfers {
                running: running.collect(),
                shown_max: TRANSFERS_SHOWN_MAX,
                shown: snapshot.transfers.iter().map(TransferReport::new).collect(),
            },
            memory: Memory {
                segment_bytes: snapshot.segment_bytes,
                chunk_bytes: geometry.chunk_bytes,
                chunks: geometry.chunks,
                chunks_held: snapshot.chunks_held,
                lane_chunks_max: geometry.lane_chunks,
            },
            certificates: snapshot.certificates.iter().map(CertificateReport::new).collect(),
        }
    }
}

impl CertificateReport {
    fn new(certificate: &Certificate) -> Self {
        let Certificate { listener, ends } = certificate;
        Self { listener: listener.clone(), ends: httpdate::fmt_http_date(*ends) }
    }
}

impl WorkerReport {
    fn new(worker: &Worker) -> Self {
        let state = match worker.phase {
            Phase::Serving => "serving",
            Phase::Draining => "draining",
            Phase::Absent => "absent",
        };
        Self {
            worker: worker.id,
            state: state.to_owned(),
            epoch: worker.epoch,
            connections_open: worker.counters.open,
            connections_accepted: worker.counters.accepted,
            payload_received_bytes: worker.counters.bytes_in,
            payload_sent_bytes: worker.counters.bytes_out,
        }
    }
}

impl TransferReport {
    fn new(transfer: &Transfer) -> Self {
        let direction = match transfer.direction {
            Direction::Forth => "forth",
            Direction::Back => "back",
        };
        let age_ms = transfer.age_ms.max(1);
        Self {
            session: transfer.session.to_string(),
            slot: transfer.slot,
            kind: transfer.kind.label().to_owned(),
            direction: direction.to_owned(),
            sender_worker: transfer.sender_worker,
            receiver_worker: transfer.receiver_worker,
            bytes: transfer.bytes,
            age_seconds: std::time::Duration::from_millis(transfer.age_ms).as_secs_f64(),
            bytes_per_second: transfer.bytes.saturating_mul(1000) / age_ms,
        }
    }
}
