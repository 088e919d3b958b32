//! `/metrics`: the snapshot in the text format of OpenMetrics, from which `exposition` makes the older one of
//! Prometheus.
//!
//! Names follow Prometheus' conventions; the format adds `_total` to counters. `docs/metrics.md` has the table, and a
//! test compares the two.

use super::snapshot::Snapshot;
use crate::api::ApiName;
use crate::outcome::{ReceiverOutcome, SenderOutcome};
use crate::session::Kind;
use crate::tally::{Handshake, Limit, Tally};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use shm::{End, Phase};
use std::fmt;
use std::time::UNIX_EPOCH;

const PREFIX: &str = "idontstore";

/// Writes all metrics.
pub(super) fn write(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version of the program", version);
    registry.register_collector(Box::new(snapshot));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer { encoder, snapshot: self };
        out.connections()?;
        out.sessions()?;
        out.transfers()?;
        out.memory()?;
        out.workers()?;
        out.logs()
    }
}

/// A value's labels: names and values.
type Labels<'l, const N: usize> = [(&'static str, &'l str); N];

struct Writer<'s, 'e> {
    encoder: DescriptorEncoder<'e>,
    snapshot: &'s Snapshot,
}

impl Writer<'_, '_> {
    fn connections(&mut self) -> fmt::Result {
        let counters = self.snapshot.counters;
        let accepted = counters.accepted;
        self.total("connections_accepted", "Client connections accepted", accepted)?;
        let open = "Client connections open now; connections being refused do not count";
        self.gauge("connections_open", open, counters.open)?;
        self.totals(
            "limits_hit",
            "Connections, requests and lanes refused because a limit was reached",
            Limit::ALL.iter().map(|limit| ([("limit", limit.label())], Tally::Limit(*limit))),
        )?;
        self.totals(
            "tls_handshakes",
            "TLS handshakes ended, by outcome",
            Handshake::ALL.iter().map(|it| ([("outcome", it.label())], Tally::Handshake(*it))),
        )?;
        let ends = self.snapshot.certificates.iter().map(|it| {
            let ends = it.ends.duration_since(UNIX_EPOCH).unwrap_or_default();
            ([("listener", it.listener.as_str())], ends.as_secs())
        });
        self.gauges(
            "tls_certificate_expiry_timestamp_seconds",
            "When the certificate of a listener expires, in seconds since 1970",
            ends,
        )?;
        self.tally("requests", "Request heads read", Tally::Request)?;
        let codes: Vec<_> = Tally::all()
            .filter_map(|tally| match tally {
                Tally::Answer(status) => Some((status.code().to_string(), tally)),
                _ => None,
            })
            .collect();
        self.totals(
            "answers",
            "Answers begun, by status code; relayed answers are 200 or 206",
            codes.iter().map(|(code, tally)| ([("code", code.as_str())], *tally)),
        )
    }

    fn sessions(&mut self) -> fmt::Result {
        self.totals(
            "sessions_issued",
            "Sessions issued",
            Kind::ALL.iter().map(|kind| ([("kind", kind.label())], Tally::Issued(*kind))),
        )?;
        let causes = [
            ("complete", End::Complete),
            ("deleted", End::Deleted),
            ("expired", End::Expired),
            ("damaged", End::Corrupt),
            ("displaced", End::Displaced),
            ("left", End::Left),
        ];
        self.totals(
            "sessions_ended",
            "Sessions ended; an expired session counts once its slot is needed or a client waits",
            causes.map(|(cause, end)| ([("cause", cause)], Tally::Ended(end))),
        )?;
        let live = Kind::ALL.iter().zip(self.snapshot.sessions);
        self.gauges(
            "sessions_live",
            "Sessions alive now",
            live.map(|(kind, count)| ([("kind", kind.label())], count as u64)),
        )?;
        let max = self.snapshot.geometry.sessions;
        self.gauge("sessions_max", "Sessions that can be alive at once", max.into())?;
        self.tally(
            "unknown_keys",
            "Requests that named a key of no living session",
            Tally::UnknownKey,
        )
    }

    fn transfers(&mut self) -> fmt::Result {
        let api = |api: &'static ApiName| ("api", api.label());
        self.totals(
            "transfers_begun",
            "Transfers whose first payload, or the end of an empty body, went to a receiver",
            ApiName::ALL.iter().map(|it| ([api(it)], Tally::Begun(*it))),
        )?;
        self.tally(
            "transfers_resumed",
            "Transfers that resumed a file at an offset above 0",
            Tally::Resumed,
        )?;
        let senders = ApiName::ALL.iter().flat_map(|it| {
            let labels = move |end: SenderOutcome| [api(it), ("outcome", end.label())];
            SenderOutcome::ALL.iter().map(move |end| (labels(*end), Tally::Sender(*it, *end)))
        });
        let help = "Senders that held a place and ended, by outcome";
        self.totals("senders_done", help, senders)?;
        let receivers = ApiName::ALL.iter().flat_map(|it| {
            let labels = move |end: ReceiverOutcome| [api(it), ("outcome", end.label())];
            ReceiverOutcome::ALL.iter().map(move |end| (labels(*end), Tally::Receiver(*it, *end)))
        });
        let help = "Receivers that held a place and ended, by outcome";
        self.totals("receivers_done", help, receivers)?;
        let running = ApiName::ALL.iter().zip(self.snapshot.running);
        self.gauges(
            "transfers_running",
            "Transfers begun and not ended",
            running.map(|(it, count)| ([api(it)], count as u64)),
        )?;
        let waits = [
            ("sender", self.snapshot.senders_waiting),
            ("receiver", self.snapshot.receivers_waiting),
        ];
        self.gauges(
            "waits",
            "Clients that hold a place and wait for their peer",
            waits.map(|(role, count)| ([("role", role)], count as u64)),
        )?;
        let counters = self.snapshot.counters;
        let help = "Payload received from senders";
        self.bytes_total("payload_received", help, counters.bytes_in)?;
        let help = "Payload that the receivers' kernel sockets took";
        self.bytes_total("payload_sent", help, counters.bytes_out)?;
        let help = "Payload read from senders and dropped because the receiver has it";
        self.bytes_total("payload_skipped", help, counters.bytes_skipped)
    }

    fn memory(&mut self) -> fmt::Result {
        let geometry = self.snapshot.geometry;
        let segment_bytes = self.snapshot.segment_bytes as u64;
        self.bytes("segment", "Size of the shared-memory segment", segment_bytes)?;
        self.bytes("chunk", "Size of one chunk", geometry.chunk_bytes as u64)?;
        self.gauge("chunks", "Chunks in the segment", geometry.chunks.into())?;
        let held = self.snapshot.chunks_held as u64;
        self.gauge("chunks_held", "Chunks that lanes hold", held)?;
        self.gauge("pipes", "Pipes of the relay", geometry.pipes.into())?;
        let held = self.snapshot.pipes_held as u64;
        self.gauge("pipes_held", "Pipes that lanes hold or workers are emptying", held)?;
        let dirty = self.snapshot.pipes_dirty as u64;
        self.gauge("pipes_dirty", "Pipes that must be emptied before they are used again", dirty)
    }

    fn workers(&mut self) -> fmt::Result {
        let phases = [("serving", Phase::Serving), ("draining", Phase::Draining)];
        let count = |phase| self.snapshot.workers_in(phase) as u64;
        let phases = phases.map(|(state, phase)| ([("state", state)], count(phase)));
        self.gauges("workers", "Worker processes", phases)?;
        self.tally("workers_forked", "Worker processes forked", Tally::WorkerForked)?;
        let help = "Worker processes that ended without an order";
        self.tally("workers_died", help, Tally::WorkerDied)
    }

    fn logs(&mut self) -> fmt::Result {
        let logs = [("access", Tally::AccessDropped), ("diagnostics", Tally::DiagnosticDropped)];
        self.totals(
            "log_lines_dropped",
            "Log lines dropped because the log had no room",
            logs.map(|(log, tally)| ([("log", log)], tally)),
        )
    }

    fn tally(&mut self, name: &str, help: &str, tally: Tally) -> fmt::Result {
        self.total(name, help, self.snapshot.count(tally))
    }

    fn total(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.single(name, help, None, &ConstCounter::new(value))
    }

    fn bytes_total(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.single(name, help, Some(&Unit::Bytes), &ConstCounter::new(value))
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.single(name, help, None, &ConstGauge::new(value))
    }

    fn bytes(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.single(name, help, Some(&Unit::Bytes), &ConstGauge::new(value))
    }

    fn single(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        metric: &impl EncodeMetric,
    ) -> fmt::Result {
        metric.encode(self.encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
    }

    fn totals<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, Tally)>,
    ) -> fmt::Result {
        let snapshot = self.snapshot;
        let counter = |tally| ConstCounter::new(snapshot.count(tally));
        self.family(name, help, values.into_iter().map(|(labels, it)| (labels, counter(it))))
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter();
        self.family(name, help, values.map(|(labels, it)| (labels, ConstGauge::new(it))))
    }

    fn family<'l, const N: usize, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        metrics: impl Iterator<Item = (Labels<'l, N>, M)>,
    ) -> fmt::Result {
        let mut metrics = metrics.peekable();
        let Some((_, first)) = metrics.peek() else { return Ok(()) };
        let kind = first.metric_type();
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        metrics.try_for_each(|(labels, metric)| metric.encode(family.encode_family(&labels)?))
    }
}
