//! The status for people, as `idontstore status` prints it.

use super::status::{CertificateReport, StatusReport, TransferReport, WorkerReport};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, ready, workers, sessions, waits, transfers, memory, certificates } =
            self;
        let state = if *ready { "serving" } else { "draining" };
        writeln!(f, "idontstore {version}, {state}")?;
        writeln!(
            f,
            "sessions   {} live ({}), {} expired, {} ending, {} at most",
            sessions.live.values().sum::<usize>(),
            each(&sessions.live),
            sessions.expired,
            sessions.ending,
            sessions.max
        )?;
        let (senders, receivers) = (waits.senders, waits.receivers);
        writeln!(f, "waiting    {senders} to send, {receivers} to receive")?;
        let running: usize = transfers.running.values().sum();
        writeln!(f, "transfers  {running} running ({})", each(&transfers.running))?;
        writeln!(
            f,
            "memory     {} of shared memory; {} of {} chunks of {} held",
            size(memory.segment_bytes as u64),
            memory.chunks_held,
            memory.chunks,
            size(memory.chunk_bytes as u64)
        )?;
        certificates.iter().try_for_each(|CertificateReport { listener, ends }| {
            writeln!(f, "TLS        the certificate of {listener} is good until {ends}")
        })?;
        write_workers(f, workers)?;
        if !transfers.shown.is_empty() {
            write_transfers(f, &transfers.shown)?;
        }
        match running.saturating_sub(transfers.shown.len()) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more; {} are listed at most", transfers.shown_max),
        }
    }
}

fn write_workers(f: &mut impl Write, workers: &[WorkerReport]) -> fmt::Result {
    writeln!(
        f,
        "\n{:>6}  {:<8}  {:>5}  {:>6}  {:>10}  {:>9}  {:>9}",
        "worker", "state", "epoch", "open", "accepted", "received", "sent"
    )?;
    workers.iter().try_for_each(|worker| {
        writeln!(
            f,
            "{:>6}  {:<8}  {:>5}  {:>6}  {:>10}  {:>9}  {:>9}",
            worker.worker,
            worker.state,
            worker.epoch,
            worker.connections_open,
            worker.connections_accepted,
            size(worker.payload_received_bytes),
            size(worker.payload_sent_bytes)
        )
    })
}

fn write_transfers(f: &mut impl Write, transfers: &[TransferReport]) -> fmt::Result {
    writeln!(
        f,
        "\n{:<12}  {:>6}  {:<8}  {:<5}  {:>7}  {:>9}  {:>10}  {:>11}",
        "session", "slot", "kind", "lane", "workers", "bytes", "age", "rate"
    )?;
    transfers.iter().try_for_each(|transfer| {
        writeln!(
            f,
            "{:<12}  {:>6}  {:<8}  {:<5}  {:>7}  {:>9}  {:>10}  {:>11}",
            transfer.session,
            transfer.slot,
            transfer.kind,
            transfer.direction,
            format!("{}>{}", transfer.sender_worker, transfer.receiver_worker),
            size(transfer.bytes),
            format!("{:.1}s", transfer.age_seconds),
            format!("{}/s", size(transfer.bytes_per_second))
        )
    })
}

fn each(counts: &BTreeMap<String, usize>) -> String {
    let each: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    each.join(", ")
}

/// A size to three digits or so, in the unit that suits it.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{}{unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(1023), "1023B");
        assert_eq!(size(1536), "1.5KiB");
        assert_eq!(size(64 << 20), "64.0MiB");
        assert_eq!(size(u64::MAX), "16777215.9TiB");
    }
}
