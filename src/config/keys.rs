//! The table of the keys that do not depend on each other: the sections `[log]`, `[exchange]`, `[messages]`,
//! `[limits]` and `[timeouts]`. A key has one line: its name, its type, and the rule that checks what was typed.
//! `typed` makes the section as typed of it; `sections` makes the section as checked, the check, and the dump.
//! `conf/idontstore.toml` has each key's default and its manual.
//!
//! The other sections are written by hand: their keys depend on each other or on the machine.

/// Gives the whole table to the macro `make`.
macro_rules! table {
    ($make:ident) => {
        $make! {
            /// The section `[log]`.
            Log, log, "a section `[log]`" {
                /// The most verbose level of diagnostics that is written.
                level: tracing::Level = choice(),
                /// How diagnostics are written.
                format: LogFormat = choice(),
                /// The file of the access log; an absolute path.
                access: Option<PathBuf> = path_or_none(FILE_PATH_BYTES_MAX),
                /// How the access log is written.
                access_format: AccessFormat = choice(),
            }

            /// The section `[exchange]`.
            Exchange, exchange, "a section `[exchange]`" {
                /// The default of a sender's receipt level.
                receipt: Receipt = choice(),
                /// The most that a request may ask to wait for its peer.
                wait_timeout_max: Duration = duration(MS..=DAY),
            }

            /// The section `[messages]`.
            Messages, messages, "a section `[messages]`" {
                /// The path of its sessions: one or more segments, each with its slash before it.
                mount: String = mount(),
                /// The default of a sender's receipt level.
                receipt: Receipt = choice(),
                /// How long a request waits for its peer if it does not say.
                wait_timeout: Duration = duration(MS..=DAY),
                /// The most that a request may wait for its peer.
                wait_timeout_max: Duration = duration(MS..=DAY),
                /// The longest lifetime of a session.
                session_lifetime_max: Duration = duration(LIFETIMES),
            }

            /// The section `[limits]`.
            Limits, limits, "a section `[limits]`" {
                /// Client connections open at once, over all workers.
                connections_max: usize = count(1..=CONNECTIONS_MAX.into()),
                /// Client connections of one address open at once, over all workers; 0 for no limit.
                connections_per_address_max: u32 = later(),
                /// Sessions of one address alive at once; 0 for no limit.
                sessions_per_address_max: u32 = later(),
                /// How many chunks the lanes of one address's senders may hold.
                chunks_per_address_max: Share = share(),
                /// The same of the pipes.
                pipes_per_address_max: Share = share(),
                /// How many times the limits of a 64-bit IPv6 network one of 48 bits may have.
                wide_network_factor: u32 = count(1..=SEATS_MAX),
                /// Unknown session keys that one address may name in a second; 0 for no limit.
                unknown_keys_per_second_max: u32 = count(0..=1_000_000),
                /// Nameplates that one address may name in a minute, known or unknown; 0 for no limit.
                nameplates_per_minute_max: u32 = count(0..=1_000_000),
                /// Request line and header fields of one request, in bytes.
                head_bytes_max: usize = size(512..=MIB),
                /// Header fields of one request.
                header_fields_max: usize = count(1..=128),
                /// Payload of one transfer, in bytes.
                body_bytes_max: u64 = size(1..=1024 * TIB),
                /// All bytes of a multipart form but the file.
                form_overhead_bytes_max: u64 = size(KIB..=16 * MIB),
                /// Bytes of one chunk-size line of a chunked body.
                chunk_line_bytes_max: u32 = size(32..=64 * KIB),
                /// Trailer section of a chunked body, in bytes.
                trailer_bytes_max: u32 = size(64..=MIB),
                /// Bytes read and dropped after an early answer.
                linger_bytes_max: u64 = size(0..=GIB),
                /// Client connections open at once, up to which `rate_bytes_min` does not hold.
                patience_connections_max: usize = later(),
                /// The slowest transfer that continues while others need the room, in bytes a second over
                /// `rate_window`; 0 for no minimum.
                rate_bytes_min: u64 = size(0..=GIB),
                /// The slowest receiver that keeps chunks that others need, in bytes a second over
                /// `stall_timeout`.
                stall_rate_bytes_min: u64 = size(0..=GIB),
                /// The most that is read of one transfer, in bytes a second; none below `rate_bytes_min`.
                rate_bytes_max: Option<NonZeroU64> = rate(),
                /// The most that is read of everything that one address sends, in bytes a second.
                rate_bytes_per_address_max: Option<NonZeroU64> = rate(),
                /// Unanswered keep-alive probes.
                keepalive_probes_max: u32 = count(1..=KEEPALIVE_PROBES_MAX),
            }

            /// The section `[timeouts]`.
            Timeouts, timeouts, "a section `[timeouts]`" {
                /// For a TLS handshake.
                handshake_timeout: Duration = duration(MS..=DAY),
                /// For a complete head.
                head_timeout: Duration = duration(MS..=DAY),
                /// For the next request on a kept-alive connection.
                idle_timeout: Duration = duration(MS..=DAY),
                /// Silence before the first keep-alive probe, in whole seconds.
                keepalive_idle: Duration = seconds(),
                /// Time between keep-alive probes, in whole seconds.
                keepalive_interval: Duration = seconds(),
                /// For the peer to come, in the exchange, if the request does not say.
                wait_timeout: Duration = duration(MS..=DAY),
                /// Time from the issue of a session key to its end.
                session_lifetime: Duration = duration(LIFETIMES),
                /// Time from the issue of a session with a nameplate to its end, if no message is delivered.
                nameplate_lifetime: Duration = duration(LIFETIMES),
                /// For the holder of a place to say that it keeps the place, when a rival asks for it.
                place_wait: Duration = duration(MS..=DAY),
                /// For a transfer's first chunk.
                chunk_wait: Duration = duration(MS..=DAY),
                /// For a receiver to take something while others need its chunks.
                stall_timeout: Duration = duration(MS..=DAY),
                /// For the receiver's last TCP acknowledgement.
                ack_timeout: Duration = duration(MS..=DAY),
                /// For reading and dropping after an early answer.
                linger_timeout: Duration = duration(MS..=DAY),
                /// For the next byte of a transfer, while there is room.
                silence_timeout: Duration = duration(MS..=DAY),
                /// For the next byte of a pair, in either direction.
                pair_idle_timeout: Duration = duration(MS..=DAY),
                /// The span over which `rate_bytes_min` is averaged.
                rate_window: Duration = duration(MS..=DAY),
                /// For new workers to serve, and for a new program to show that it could take over.
                start_timeout: Duration = duration(SECOND..=DAY),
                /// For a worker to give a sign of life.
                hang_timeout: Duration = duration(100 * MS..=DAY),
                /// For a reload to wait until others have drained.
                reload_timeout: Duration = duration(MS..=DAY),
                /// For running transfers, after a graceful stop was asked for.
                stop_timeout: Duration = duration(MS..=DAY),
                /// For clients that wait at workers that drain.
                drain_timeout: Duration = duration(MS..=DAY),
            }
        }
    };
}

pub(super) use table;

#[cfg(test)]
mod tests {
    use super::super::DEFAULT_TEXT;

    macro_rules! names {
        ($(
            $(#[$about:meta])*
            $Section:ident, $section:ident, $expected:literal {
                $($(#[$doc:meta])* $key:ident: $type:ty = $rule:ident($($argument:expr)?),)+
            }
        )+) => {
            /// The sections and their keys.
            const KEYS: &[(&str, &[&str])] =
                &[$((stringify!($section), &[$(stringify!($key),)+]),)+];
        };
    }

    table!(names);

    #[test]
    fn the_manual_has_every_key_once() {
        for (section, keys) in KEYS {
            let heading = format!("[{section}]");
            let lines = DEFAULT_TEXT.lines().skip_while(|line| *line != heading).skip(1);
            let section: Vec<_> = lines.take_while(|line| !line.starts_with('[')).collect();
            let typed = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase());
            let found: Vec<_> = section
                .iter()
                .filter(|line| typed(line))
                .map(|line| line.split(' ').next())
                .collect();
            let expected: Vec<_> = keys.iter().map(|key| Some(*key)).collect();
            assert_eq!(found, expected, "the keys of {heading}, in their order");
        }
    }
}
