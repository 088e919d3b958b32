//! The section `[memory]`: its sizes, and whether they fit together.

use super::super::Memory;
use super::super::host::{Host, SEGMENT_AUTO_BYTES_MAX, SEGMENT_BYTES_MIN};
use super::super::report::Problem;
use super::super::unit::size_text;
use super::{Check, KIB, Key, MIB, TIB, count_within, is_auto, size_within, sizes_allowed, typed};
use shm::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, Geometry, LANE_CHUNKS_MAX, PIPES_MAX, SESSIONS_MAX};

/// A segment below this size has fewer than two hundred chunks of 256 KiB.
const SMALL_SEGMENT_BYTES: u64 = 64 << 20;

impl Check<'_> {
    pub(super) fn memory(
        &mut self,
        file: &typed::File,
        default: &typed::File,
        connections_max: usize,
        host: &Host,
    ) -> Memory {
        let (limits, default_limits) = (&file.limits, &default.limits);
        let (file, default) = (&file.memory, &default.memory);
        let keys = [
            key!(file, default, segment_bytes),
            key!(file, default, sessions_max),
            key!(file, default, lane_bytes_max),
            key!(file, default, chunk_bytes),
            key!(file, default, pipes),
            key!(limits, default_limits, connections_max),
        ];
        let [segment_key, sessions_key, lane_key, chunk_key, pipes_key, _] = &keys;
        let segment_bytes = self.segment_bytes(segment_key, host);
        let sessions = self.sessions_max(sessions_key);
        let lane_bytes = self.size::<usize>(lane_key, 4 * KIB..=4 * MIB);
        let chunk_bytes = self.chunk_bytes(chunk_key, segment_bytes, lane_bytes);
        let (pipes, pipes_are_auto) = self.pipes(pipes_key, segment_bytes, host);
        let connections = u32::try_from(connections_max).unwrap_or(u32::MAX);
        let geometry = lane_chunks(lane_bytes, chunk_bytes).and_then(|lane_chunks| {
            Geometry::fit(
                segment_bytes,
                shm::Wanted { sessions, connections, chunk_bytes, lane_chunks, pipes },
            )
            .map_err(|error| error.to_string())
        });
        match geometry {
            Ok(geometry) => Memory { segment_bytes, geometry, pipes_are_auto },
            Err(why) => {
                // A value refused above needs no second problem about its replacement.
                if !keys.iter().any(|key| self.is_refused(key)) {
                    self.misfit(why, &keys);
                }
                let geometry = Geometry {
                    sessions: 1,
                    connections: 1,
                    chunks: 1,
                    chunk_bytes,
                    lane_chunks: 1,
                    pipes: 0,
                };
                Memory { segment_bytes, geometry, pipes_are_auto }
            }
        }
    }

    fn is_refused(&self, key: &Key<'_>) -> bool {
        key.span().is_some_and(|span| self.problems.iter().any(|problem| problem.place.0 == span))
    }

    /// Reports keys that are each valid and do not fit together. The defaults fit, so at least one was typed.
    fn misfit(&mut self, why: String, keys: &[Key<'_>]) {
        let describe = |key: &Key<'_>| {
            let place = |span| (span, format!("`{}`", key.name));
            key.span().map(place)
        };
        let mut typed = keys.iter().filter_map(describe);
        self.problems.push(Problem {
            title: "these sizes do not fit together".to_owned(),
            place: typed.next().unwrap_or_default(),
            related: typed.collect(),
            help: Some(why),
        });
    }

    fn segment_bytes(&mut self, key: &Key<'_>, host: &Host) -> u64 {
        // More would cost other processes, and our own: the kernel does not refuse memory that it does not have, but
        // takes it from the processes that have it.
        let range = SEGMENT_BYTES_MIN..=host.segment_bytes_max().clamp(SEGMENT_BYTES_MIN, TIB);
        let allowed = format!("\"auto\" or {} on this machine", sizes_allowed(&range));
        self.value(key, &allowed, |value| {
            if is_auto(value) {
                Some(host.segment_bytes_auto())
            } else {
                size_within(value, &range)
            }
        })
    }

    fn chunk_bytes(&mut self, key: &Key<'_>, segment_bytes: u64, lane_bytes: usize) -> usize {
        let range = CHUNK_BYTES_MIN as u64..=CHUNK_BYTES_MAX as u64;
        let allowed = format!("\"auto\" or {}, a power of two", sizes_allowed(&range));
        self.value(key, &allowed, |value| {
            if is_auto(value) {
                return Some(chunk_bytes_auto(segment_bytes, lane_bytes));
            }
            let bytes = usize::try_from(size_within(value, &range)?).ok()?;
            bytes.is_power_of_two().then_some(bytes)
        })
    }

    /// The number of pipes, and whether it is "auto".
    fn pipes(&mut self, key: &Key<'_>, segment_bytes: u64, host: &Host) -> (u32, bool) {
        let allowed = format!("\"auto\" or a number from 0 to {PIPES_MAX}");
        self.value(key, &allowed, |value| match count_within(value, &(0..=PIPES_MAX.into())) {
            Some(count) => u32::try_from(count).ok().map(|count| (count, false)),
            None => is_auto(value).then(|| (host.pipes_auto(segment_bytes), true)),
        })
    }

    /// `None` for as many as fit.
    fn sessions_max(&mut self, key: &Key<'_>) -> Option<u32> {
        let allowed = format!("\"auto\" or a number from 1 to {SESSIONS_MAX}");
        self.value(key, &allowed, |value| match count_within(value, &(1..=SESSIONS_MAX.into())) {
            Some(count) => u32::try_from(count).ok().map(Some),
            None => is_auto(value).then_some(None),
        })
    }
}

/// Chooses large chunks, which cost less, but one for each of a hundred transfers: three quarters of the segment are
/// chunks. A small segment needs smaller chunks, so that eight addresses that take all they may leave some to others.
fn chunk_bytes_auto(segment_bytes: u64, lane_bytes: usize) -> usize {
    let bytes: usize = match segment_bytes {
        SEGMENT_AUTO_BYTES_MAX.. => 512 << 10,
        SMALL_SEGMENT_BYTES.. => 256 << 10,
        _ => 128 << 10,
    };
    // A typed lane size has to fit.
    bytes.max((lane_bytes / LANE_CHUNKS_MAX).next_power_of_two())
}

/// A lane is whole chunks, and not too many of them.
fn lane_chunks(lane_bytes: usize, chunk_bytes: usize) -> Result<usize, String> {
    let chunks = lane_bytes / chunk_bytes;
    if lane_bytes.is_multiple_of(chunk_bytes) && (1..=LANE_CHUNKS_MAX).contains(&chunks) {
        return Ok(chunks);
    }
    let [lane_text, chunk_text] = [lane_bytes, chunk_bytes].map(|bytes| size_text(bytes as u64));
    Err(format!(
        "allowed: `lane_bytes_max` ({lane_text}) is 1 to {LANE_CHUNKS_MAX} times `chunk_bytes` \
         ({chunk_text}), and at most 4MiB"
    ))
}
