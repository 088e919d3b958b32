//! Where it has to get: ratios of medians in one run, with the CPUs near if nothing else is said. Peers are compared with
//! connections as they land; where a worker is chosen, that is to explain, beside a limit or another placement.

use crate::goal::{Bound, Goal, Of, far, goal};
use crate::sample::Metric;
use crate::scenes::{
    CHUNKED, CHUNKED_CHUNKS_ONE, CHUNKED_CHUNKS_TWO, CHUNKED_ONE, CHUNKED_TWO, CHUNKING_COPY,
    CHUNKS_ONE, CHUNKS_TWO, COPY, EXCHANGES, FORMS, HAPROXY, LANDED, MESSAGES, MULTIPART_ONE,
    MULTIPART_TWO, NGINX, NGINX_ANSWER, ONE_WORKER, PACKAGED, PIPES_256_ONE, PIPES_256_TWO, PIPING,
    PLAIN, RELAY, SPLICE, TLS_ALONE, TRANSIT_RELAY, TWO_WORKERS,
};

const BULK_COPY: &[Of] = &[("bulk", COPY)];
const BULK_HAPROXY: &[Of] = &[("bulk", HAPROXY)];
const CHUNKING: &[Of] = &[("framed", CHUNKING_COPY)];
const MEET_16: &[Of] = &[("kept-16", "meet")];
const PIPING_16: &[Of] = &[("kept-16", PIPING)];
/// Contenders on fresh connections with the default receipt. Asking for the session is part of the work, unless it is
/// issued.
const FRESH: &str = "idontstore, as they land, acked";
const FRESH_ISSUED: &str = "idontstore, as they land, issued, acked";
const ECHO: &[Of] = &[("latency", "echo")];
const PAIR_HAPROXY: &[Of] = &[("pair", HAPROXY)];
const BOTH_HAPROXY: &[Of] = &[("pair-both", HAPROXY)];
const CROWD_HAPROXY: &[Of] = &[("pair-crowd", HAPROXY)];
const TRIP_ECHO: &[Of] = &[("pair-trips", "echo")];
/// The CPU time of the transit relay, divided by 8.
const EIGHTH: f64 = 0.125;

/// CPU time of pairs beside others' in the same scene.
const fn pairs(says: &'static str, of: Of, by: &'static [Of], most: f64) -> Goal {
    goal(says, CpuPerGib, of, by, AtMost(most))
}

use Bound::{AtLeast, AtMost};
use Metric::{
    AllCpuPerGib, BytesEach, CpuEach, CpuPerGib, Excess, Fairness, GibPerSecond, Got50, IdleCpu,
    PeakMib, PerCpuSecond, PerSecond, Trip50,
};

pub(crate) const GOALS: &[Goal] = &[
    goal(
        "bulk, two workers: CPU / copy",
        CpuPerGib,
        ("bulk", TWO_WORKERS),
        BULK_COPY,
        AtMost(0.75),
    ),
    goal(
        "bulk, two workers: CPU / HAProxy",
        CpuPerGib,
        ("bulk", TWO_WORKERS),
        BULK_HAPROXY,
        AtMost(1.2),
    ),
    goal("fresh, 16: CPU us for an exchange", CpuEach, ("fresh-16", FRESH), &[], AtMost(90.0)),
    goal("fresh, 16: per s", PerSecond, ("fresh-16", FRESH), &[], AtLeast(10_000.0)),
    goal(
        "bulk, two workers, chunks: CPU / copy",
        CpuPerGib,
        ("bulk", CHUNKS_TWO),
        BULK_COPY,
        AtMost(1.1),
    ),
    goal(
        "bulk, as they land: CPU / HAProxy",
        CpuPerGib,
        ("bulk", LANDED),
        BULK_HAPROXY,
        AtMost(1.25),
    ),
    goal(
        "bulk, as they land: speed / HAProxy",
        GibPerSecond,
        ("bulk", LANDED),
        BULK_HAPROXY,
        AtLeast(1.0),
    ),
    goal(
        "bulk, as packaged: CPU / HAProxy",
        CpuPerGib,
        ("bulk", PACKAGED),
        BULK_HAPROXY,
        AtMost(1.25),
    ),
    goal(
        "bulk, as packaged: speed / HAProxy",
        GibPerSecond,
        ("bulk", PACKAGED),
        BULK_HAPROXY,
        AtLeast(1.0),
    ),
    goal(
        "bulk, two workers: CPU with both ends / by chunks",
        AllCpuPerGib,
        ("bulk", TWO_WORKERS),
        &[("bulk", CHUNKS_TWO)],
        AtMost(1.0),
    ),
    goal(
        "bulk, two workers: speed / by chunks",
        GibPerSecond,
        ("bulk", TWO_WORKERS),
        &[("bulk", CHUNKS_TWO)],
        AtLeast(1.0),
    ),
    far(goal(
        "bulk, two workers, CPUs far: CPU / by chunks",
        CpuPerGib,
        ("bulk", TWO_WORKERS),
        &[("bulk", CHUNKS_TWO)],
        AtMost(0.5),
    )),
    goal(
        "bulk, two workers, chunks: speed / copy",
        GibPerSecond,
        ("bulk", CHUNKS_TWO),
        BULK_COPY,
        AtLeast(1.1),
    ),
    goal(
        "bulk, one worker, chunks: CPU / copy",
        CpuPerGib,
        ("bulk", CHUNKS_ONE),
        BULK_COPY,
        AtMost(1.1),
    ),
    goal("bulk, one worker: CPU / copy", CpuPerGib, ("bulk", ONE_WORKER), BULK_COPY, AtMost(0.75)),
    goal(
        "bulk, one worker: CPU with both ends / by chunks",
        AllCpuPerGib,
        ("bulk", ONE_WORKER),
        &[("bulk", CHUNKS_ONE)],
        AtMost(1.0),
    ),
    goal(
        "multipart, two workers: CPU / raw by chunks",
        CpuPerGib,
        ("framed", MULTIPART_TWO),
        &[("framed", CHUNKS_TWO)],
        AtMost(1.15),
    ),
    goal(
        "multipart, one worker: CPU / raw by chunks",
        CpuPerGib,
        ("framed", MULTIPART_ONE),
        &[("framed", CHUNKS_ONE)],
        AtMost(1.15),
    ),
    goal(
        "multipart, two workers: CPU / chunking copy",
        CpuPerGib,
        ("framed", MULTIPART_TWO),
        CHUNKING,
        AtMost(0.9),
    ),
    goal(
        "multipart, one worker: CPU / chunking copy",
        CpuPerGib,
        ("framed", MULTIPART_ONE),
        CHUNKING,
        AtMost(0.9),
    ),
    goal(
        "chunked, two workers, chunks: CPU / raw by chunks",
        CpuPerGib,
        ("framed", CHUNKED_CHUNKS_TWO),
        &[("framed", CHUNKS_TWO)],
        AtMost(1.15),
    ),
    goal(
        "chunked, one worker, chunks: CPU / raw by chunks",
        CpuPerGib,
        ("framed", CHUNKED_CHUNKS_ONE),
        &[("framed", CHUNKS_ONE)],
        AtMost(1.15),
    ),
    goal(
        "chunked, two workers, chunks: CPU / chunking copy",
        CpuPerGib,
        ("framed", CHUNKED_CHUNKS_TWO),
        CHUNKING,
        AtMost(0.9),
    ),
    goal(
        "chunked, one worker, chunks: CPU / chunking copy",
        CpuPerGib,
        ("framed", CHUNKED_CHUNKS_ONE),
        CHUNKING,
        AtMost(0.9),
    ),
    goal(
        "chunked, two workers: CPU / copy",
        CpuPerGib,
        ("framed", CHUNKED_TWO),
        &[("framed", COPY)],
        AtMost(0.7),
    ),
    goal(
        "chunked, one worker: CPU / copy",
        CpuPerGib,
        ("framed", CHUNKED_ONE),
        &[("framed", COPY)],
        AtMost(0.7),
    ),
    goal(
        "lengths of heads, plain bodies by chunk: dearest / cheapest, x by chance",
        Excess,
        ("alignment", PLAIN),
        &[],
        AtMost(1.15),
    ),
    goal(
        "lengths of heads, chunked bodies by chunk: dearest / cheapest, x by chance",
        Excess,
        ("alignment", CHUNKED),
        &[],
        AtMost(1.15),
    ),
    goal(
        "lengths of heads, forms: dearest / cheapest, x by chance",
        Excess,
        ("alignment", FORMS),
        &[],
        AtMost(1.15),
    ),
    goal(
        "100 at once, as packaged: CPU / one alone by chunks",
        CpuPerGib,
        ("crowd", PACKAGED),
        &[("bulk", CHUNKS_TWO)],
        AtMost(1.5),
    ),
    goal(
        "100 at once, two workers: CPU / one alone by chunks",
        CpuPerGib,
        ("crowd", TWO_WORKERS),
        &[("bulk", CHUNKS_TWO)],
        AtMost(1.5),
    ),
    goal(
        "100 at once, one worker: CPU / one alone by chunks",
        CpuPerGib,
        ("crowd", ONE_WORKER),
        &[("bulk", CHUNKS_ONE)],
        AtMost(1.5),
    ),
    goal(
        "100 at once, as packaged: CPU / HAProxy",
        CpuPerGib,
        ("crowd", PACKAGED),
        &[("crowd", HAPROXY)],
        AtMost(1.25),
    ),
    goal(
        "100 at once, as packaged: speed / HAProxy",
        GibPerSecond,
        ("crowd", PACKAGED),
        &[("crowd", HAPROXY)],
        AtLeast(1.0),
    ),
    goal("100 at once, as packaged: Jain", Fairness, ("crowd", PACKAGED), &[], AtLeast(0.97)),
    goal("100 at once, two workers: Jain", Fairness, ("crowd", TWO_WORKERS), &[], AtLeast(0.97)),
    goal("100 at once, one worker: Jain", Fairness, ("crowd", ONE_WORKER), &[], AtLeast(0.97)),
    goal(
        "going on, as they land: CPU of what is dropped / copy",
        CpuPerGib,
        ("resume", LANDED),
        &[("resume", COPY)],
        AtMost(0.6),
    ),
    goal(
        "going on, as they land: CPU of what is dropped / splice",
        CpuPerGib,
        ("resume", LANDED),
        &[("resume", SPLICE)],
        AtMost(1.0),
    ),
    goal(
        "fresh, 16, as they land: per s / Piping Server",
        PerSecond,
        ("fresh-16", FRESH),
        &[("fresh-16", PIPING)],
        AtLeast(2.0),
    ),
    goal(
        "fresh, 16, as they land: per CPU-s / Piping Server",
        PerCpuSecond,
        ("fresh-16", FRESH),
        &[("fresh-16", PIPING)],
        AtLeast(2.0),
    ),
    goal(
        "fresh, 16, as they land, issued: per CPU-s / meet",
        PerCpuSecond,
        ("fresh-16", FRESH_ISSUED),
        &[("fresh-16", "meet")],
        AtLeast(0.6),
    ),
    goal(
        "kept alive, 16, one worker: per s / meet",
        PerSecond,
        ("kept-16", "idontstore, one worker, sent"),
        MEET_16,
        AtLeast(0.6),
    ),
    goal(
        "kept alive, 16, one worker: per CPU-s / meet",
        PerCpuSecond,
        ("kept-16", "idontstore, one worker, sent"),
        MEET_16,
        AtLeast(0.6),
    ),
    goal(
        "kept alive, 16, two workers: per s / meet",
        PerSecond,
        ("kept-16", "idontstore, two workers, sent"),
        MEET_16,
        AtLeast(0.6),
    ),
    goal(
        "kept alive, 16, two workers: per CPU-s / meet",
        PerCpuSecond,
        ("kept-16", "idontstore, two workers, sent"),
        MEET_16,
        AtLeast(0.6),
    ),
    goal(
        "kept alive, 16, as they land, exchanges: per s / Piping Server",
        PerSecond,
        ("kept-16", EXCHANGES),
        PIPING_16,
        AtLeast(3.0),
    ),
    goal(
        "kept alive, 16, as they land, exchanges: per CPU-s / Piping Server",
        PerCpuSecond,
        ("kept-16", EXCHANGES),
        PIPING_16,
        AtLeast(3.0),
    ),
    goal(
        "kept alive, 16, as they land, messages: per s / Piping Server",
        PerSecond,
        ("kept-16", MESSAGES),
        PIPING_16,
        AtLeast(3.0),
    ),
    goal(
        "kept alive, 16, as they land, messages: per CPU-s / Piping Server",
        PerCpuSecond,
        ("kept-16", MESSAGES),
        PIPING_16,
        AtLeast(3.0),
    ),
    goal(
        "latency p50, two workers / echo",
        Got50,
        ("latency", "idontstore, two workers, sent"),
        ECHO,
        AtMost(1.5),
    ),
    pairs("pair, one worker: CPU / HAProxy", ("pair", ONE_WORKER), PAIR_HAPROXY, 1.1),
    pairs("pair, two workers: CPU / HAProxy", ("pair", TWO_WORKERS), PAIR_HAPROXY, 1.3),
    pairs(
        "pair, as they land: CPU / transit relay",
        ("pair", LANDED),
        &[("pair", TRANSIT_RELAY)],
        EIGHTH,
    ),
    pairs(
        "pair, both ways, one worker: CPU / HAProxy",
        ("pair-both", ONE_WORKER),
        BOTH_HAPROXY,
        1.1,
    ),
    pairs(
        "pair, both ways, two workers: CPU / HAProxy",
        ("pair-both", TWO_WORKERS),
        BOTH_HAPROXY,
        1.3,
    ),
    pairs(
        "pair, both ways, as they land: CPU / transit relay",
        ("pair-both", LANDED),
        &[("pair-both", TRANSIT_RELAY)],
        EIGHTH,
    ),
    pairs(
        "100 pairs, one worker, 256 pipes: CPU / HAProxy",
        ("pair-crowd", PIPES_256_ONE),
        CROWD_HAPROXY,
        1.1,
    ),
    pairs(
        "100 pairs, two workers, 256 pipes: CPU / HAProxy",
        ("pair-crowd", PIPES_256_TWO),
        CROWD_HAPROXY,
        1.3,
    ),
    pairs(
        "100 pairs, as they land: CPU / transit relay",
        ("pair-crowd", LANDED),
        &[("pair-crowd", TRANSIT_RELAY)],
        EIGHTH,
    ),
    goal(
        "round trip p50, one worker / echo",
        Trip50,
        ("pair-trips", ONE_WORKER),
        TRIP_ECHO,
        AtMost(1.2),
    ),
    goal(
        "round trip p50, two workers / echo",
        Trip50,
        ("pair-trips", TWO_WORKERS),
        TRIP_ECHO,
        AtMost(1.2),
    ),
    goal(
        "safe-conducts: CPU each / nginx with the same answer",
        CpuEach,
        ("safe-conducts", RELAY),
        &[("safe-conducts", NGINX_ANSWER)],
        AtMost(1.5),
    ),
    // The segment is 128 MiB; the rest is what three processes have of their own.
    goal("100 at once, as packaged: peak MiB", PeakMib, ("crowd", PACKAGED), &[], AtMost(160.0)),
    goal("idle receivers: CPU ms/s of all", IdleCpu, ("idle", RELAY), &[], AtMost(1.0)),
    goal(
        "idle receivers: bytes each, beside the segment",
        BytesEach,
        ("idle", RELAY),
        &[],
        AtMost(2048.0),
    ),
    goal(
        "HTTPS, as they land: CPU / nginx",
        CpuPerGib,
        ("https", LANDED),
        &[("https", NGINX)],
        AtMost(1.0),
    ),
    goal(
        "HTTPS, as they land: speed / nginx",
        GibPerSecond,
        ("https", LANDED),
        &[("https", NGINX)],
        AtLeast(1.0),
    ),
    goal(
        "HTTPS, as they land: CPU / HAProxy",
        CpuPerGib,
        ("https", LANDED),
        &[("https", HAPROXY)],
        AtMost(1.0),
    ),
    goal(
        "HTTPS, as they land: speed / HAProxy",
        GibPerSecond,
        ("https", LANDED),
        &[("https", HAPROXY)],
        AtLeast(1.0),
    ),
    goal(
        "HTTPS, two workers: CPU / (TLS library + copy)",
        CpuPerGib,
        ("https", TWO_WORKERS),
        &[("https", TLS_ALONE), ("https", COPY)],
        AtMost(1.25),
    ),
    goal(
        "HTTPS, one worker: CPU / (TLS library + copy)",
        CpuPerGib,
        ("https", ONE_WORKER),
        &[("https", TLS_ALONE), ("https", COPY)],
        AtMost(1.25),
    ),
];
