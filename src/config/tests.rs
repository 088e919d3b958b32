//! The configuration from the outside: what a file means, and what a person is told when it means nothing.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::sys::operator::Access;
use crate::sys::pipe;
use shm::Share;
use std::time::Duration;

mod access;
mod listeners;
mod memory;

fn refusal(text: &str) -> String {
    parse(text, "test.toml").unwrap_err().to_string()
}

#[track_caller]
fn assert_refused(text: &str, parts: &[&str]) {
    let report = refusal(text);
    for part in parts {
        assert!(report.contains(part), "{part:?} is missing in:\n{report}");
    }
}

#[test]
fn parts_of_connections_are_parts_of_those_that_files_can_be_opened_for() {
    let limits = |open_files, text: &str| {
        let text = format!("workers = 2\nmemory.pipes = 32\n{text}");
        let host = host::Host { open_files, ..host::Host::probe() };
        let parsed = parse_with(&alone(&text, "test.toml"), &host, Files::In(Path::new("")));
        let config = parsed.unwrap();
        let Limits { connections_per_address_max, patience_connections_max, .. } = config.limits;
        (connections_per_address_max, patience_connections_max, config.warnings().len())
    };
    assert_eq!(limits(1 << 20, ""), (512, 6144, 0));
    // Both workers have 4096 files, less 330.
    assert_eq!(limits(4096, ""), (470, 5649, 0));
    assert_eq!(limits(1024, "").0, 86);
    let typed = "limits.connections_per_address_max = 512\nlimits.patience_connections_max = 6000";
    assert_eq!(limits(1 << 20, typed), (512, 6000, 0));
    assert_eq!(limits(1024, typed), (512, 6000, 1), "more than a quarter");
}

#[test]
fn the_default_is_the_documented_one() {
    let config = embedded();
    let address = "127.0.0.1:8080".parse().unwrap();
    let protocols = Protocols { http: true, pair: true };
    assert_eq!(
        config.listeners,
        [Listener { address, ipv6_only: false, protocols, proxy_protocol: false, tls: None }]
    );
    assert!(config.trusted_proxies.is_empty());
    assert_eq!((config.generations_max, &config.control_socket), (4, &None));
    assert_eq!((config.user.name.as_str(), config.sandbox), ("nobody", true));
    let log = Log {
        level: tracing::Level::INFO,
        format: LogFormat::Text,
        access: None,
        access_format: AccessFormat::Combined,
    };
    assert_eq!(config.log, log);
    assert!(config.workers.get() <= WORKERS_MAX);
    let Memory { segment_bytes, geometry, pipes_are_auto } = &config.memory;
    assert!(pipes_are_auto);
    assert!((8 << 20..=128 << 20).contains(segment_bytes));
    assert_eq!((geometry.chunk_bytes, geometry.lane_chunks), (512 << 10, 4));
    let half = pipe::user_allowance(shm::PIPE_BYTES_MAX).map_or(u64::MAX, |pipes| pipes / 2);
    let pipes = u32::try_from(half.min((2 * segment_bytes) >> 20)).unwrap();
    let expected = shm::Geometry::fit(
        *segment_bytes,
        shm::Wanted {
            sessions: None,
            connections: 8192,
            chunk_bytes: 512 << 10,
            lane_chunks: 4,
            pipes,
        },
    );
    assert_eq!(Ok(*geometry), expected);
    assert_eq!(config.admin, Admin { listen: None, hosts: vec![], access: Access::default() });
    assert_eq!(config.previewers.len(), 30);
    assert!(
        ["WhatsApp", "Synapse (bot"].iter().all(|it| config.previewers.iter().any(|p| p == it))
    );
    let exchange =
        Exchange { receipt: Receipt::Acked, wait_timeout_max: Duration::from_secs(3600) };
    assert_eq!(config.exchange, exchange);
    assert_eq!(config.messages.wait_timeout, Duration::from_secs(300));
    assert_eq!(config.cors, Cors { origins: Origins::Nobody });
    let auth = Auth { issue_tokens: None, issue_addresses: Networks::default() };
    assert_eq!(config.auth, auth);
    // All of them, but where few files may be open.
    let connections_possible = config.connections_possible;
    let limits = Limits {
        connections_max: 8192,
        connections_per_address_max: u32::try_from(connections_possible / 16).unwrap().max(64),
        sessions_per_address_max: geometry.sessions / 16,
        chunks_per_address_max: Share::Fair,
        pipes_per_address_max: Share::Fair,
        wide_network_factor: 2,
        nameplates_per_minute_max: 10,
        unknown_keys_per_second_max: 20,
        head_bytes_max: 16 << 10,
        header_fields_max: 64,
        body_bytes_max: 1 << 40,
        form_overhead_bytes_max: 64 << 10,
        chunk_line_bytes_max: 256,
        trailer_bytes_max: 4 << 10,
        linger_bytes_max: 1 << 20,
        patience_connections_max: connections_possible - connections_possible / 4,
        rate_bytes_min: 1,
        stall_rate_bytes_min: 4 << 10,
        rate_bytes_max: None,
        rate_bytes_per_address_max: None,
        keepalive_probes_max: 3,
    };
    assert_eq!(config.limits, limits);
    let timeouts = Timeouts {
        handshake_timeout: Duration::from_secs(10),
        head_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(65),
        keepalive_idle: Duration::from_secs(30),
        keepalive_interval: Duration::from_secs(10),
        wait_timeout: Duration::from_secs(900),
        session_lifetime: Duration::from_secs(3600),
        nameplate_lifetime: Duration::from_secs(600),
        place_wait: Duration::from_secs(1),
        chunk_wait: Duration::from_secs(30),
        stall_timeout: Duration::from_secs(10),
        ack_timeout: Duration::from_secs(10),
        linger_timeout: Duration::from_secs(2),
        silence_timeout: Duration::from_secs(900),
        pair_idle_timeout: Duration::from_secs(3600),
        rate_window: Duration::from_secs(60),
        start_timeout: Duration::from_secs(10),
        hang_timeout: Duration::from_secs(10),
        reload_timeout: Duration::from_secs(3600),
        stop_timeout: Duration::from_secs(30),
        drain_timeout: Duration::from_secs(900),
    };
    assert_eq!(config.timeouts, timeouts);
}

#[test]
fn workers_become_a_user_that_there_is() {
    for user in ["root", "nobody", "0", "4000000001"] {
        let config = parse(&format!("user = \"{user}\"\n"), "good").unwrap();
        assert_eq!(config.user.name, user);
    }
    for value in ["\"no such user\"", "\"\"", "\"-1\"", "\"4294967296\"", "1000", "true"] {
        let text = format!("workers = 1\nuser = {value}\n");
        assert_refused(&text, &["bad value for `user`", "test.toml:2:8", "user of this machine"]);
    }
    assert_refused("sandbox = true\n", &["test.toml:1:11", "allowed: \"on\", \"off\""]);
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("", "empty").unwrap(), embedded());
    let sections = "[memory]\n[exchange]\n[limits]\n[timeouts]\n";
    assert_eq!(parse(sections, "sections").unwrap(), embedded());
}

#[test]
fn keys_may_be_dotted() {
    let config =
        parse("memory.sessions_max = 2\ntimeouts.wait_timeout = \"1s\"\n", "dotted").unwrap();
    assert_eq!(config.memory.geometry.sessions, 2);
    assert_eq!(config.timeouts.wait_timeout, Duration::from_secs(1));
    assert_refused("timeouts.wait_timeout = \"soon\"\n", &["test.toml:1:25"]);
}

#[test]
fn the_default_text_documents_every_key_of_a_dump() {
    let documented = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(" = ").map(|(key, _)| key.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(documented(&embedded().dump()), documented(DEFAULT_TEXT));
}

#[test]
fn a_dump_parses_back_to_the_same() {
    let unusual = r#"
        workers = 3
        user = "0"
        sandbox = "off"
        previewers = ["a \"quoted\" \\ Name", "b (c"]
        trusted_proxies = ["10.0.0.0/8", "0::1", "::ffff:192.0.2.0/120", "10.0.0.0/8"]
        listener = [
            { address = "[::1]:0" },
            { address = "[::1]:0", proxy_protocol = true },
            { address = "0.0.0.0:81", proxy_protocol = false },
        ]
        [log]
        level = "trace"
        format = "json"
        access = "/var/log/a \"quoted\" name.log"
        access_format = "json"
        [admin]
        listen = "unix:/run/a \"quoted\" name.sock"
        hosts = ["relay.example", "Other_1"]
        group = "0"
        mode = "660"
        [memory]
        segment_bytes = 9000001
        chunk_bytes = "4KiB"
        lane_bytes_max = 65536
        sessions_max = 100
        [exchange]
        receipt = "sent"
        [limits]
        connections_max = 1
        keepalive_probes_max = 127
        connections_per_address_max = 0
        sessions_per_address_max = 65536
        unknown_keys_per_second_max = 1000000
        linger_bytes_max = 0
        patience_connections_max = 0
        rate_bytes_min = "0B"
        body_bytes_max = "1024TiB"
        [timeouts]
        head_timeout = "1500ms"
        keepalive_idle = "9h"
        keepalive_interval = "1000ms"
        wait_timeout = 90
        session_lifetime = "720h"
    "#;
    let config = parse(unusual, "unusual").unwrap();
    assert_eq!(config.memory.segment_bytes, 9_000_001);
    assert_eq!(config.memory.geometry.sessions, 100);
    assert_eq!(config.memory.geometry.lane_chunks, 16);
    assert_eq!(config.timeouts.wait_timeout, Duration::from_secs(90));
    assert_eq!(config.timeouts.keepalive_interval, Duration::from_secs(1));
    assert_eq!(config.listeners.len(), 3);
    assert!(config.listeners.iter().map(|it| it.proxy_protocol).eq([false, true, false]));
    assert_eq!(config.previewers, ["a \"quoted\" \\ Name", "b (c"]);
    assert_eq!(config.trusted_proxies.iter().count(), 4);
    assert!(config.trusted_proxies.contains("192.0.2.9".parse().unwrap()));
    for mut config in [config, embedded()] {
        let parsed = parse(&config.dump(), "dump").unwrap();
        // A dump has the number of pipes that "auto" came to.
        config.memory.pipes_are_auto = false;
        assert_eq!(parsed, config);
    }
}

#[test]
fn a_wait_that_is_typed_once_is_everybodys() {
    let waits = |text| {
        let config = parse(text, "test").unwrap();
        (config.timeouts.wait_timeout.as_secs(), config.messages.wait_timeout.as_secs())
    };
    assert_eq!(waits(""), (900, 300));
    assert_eq!(waits("timeouts.wait_timeout = 90"), (90, 90));
    assert_eq!(waits("messages.wait_timeout = 90"), (900, 90));
    assert_eq!(waits("messages.wait_timeout = 20\ntimeouts.wait_timeout = 10"), (10, 20));
}

#[test]
fn a_file_is_read_and_named_in_its_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my.toml");
    let load = || Source::file(path.clone()).load();
    assert!(matches!(load(), Err(ConfigError::Unreadable { .. })));
    std::fs::write(&path, "workers = 2\n").unwrap();
    assert_eq!(load().unwrap().workers.get(), 2);
    std::fs::write(&path, "# one\nworkers = 0\n").unwrap();
    let place = format!("{}:2:11", path.display());
    assert!(load().unwrap_err().to_string().contains(&place));
}

#[test]
fn what_is_automatic_stays_while_the_program_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my.toml");
    std::fs::write(&path, "memory.segment_bytes = \"11MiB\"\n").unwrap();
    let source = Source::file(path.clone());
    let running = source.load().unwrap();
    // As if the machine had had other memory at the start.
    std::fs::write(&path, "workers = 2\n").unwrap();
    let next = source.load_again(&running).unwrap();
    assert_eq!(next.memory, running.memory);
    assert_eq!(running.keys_fixed_until_restart(&next), [] as [&str; 0]);
    assert_ne!(source.load().unwrap().memory, running.memory);
    // As if the limit of pipes had been another.
    let pipes = shm::Geometry { pipes: 3, ..running.memory.geometry };
    let memory = Memory { geometry: pipes, ..running.memory };
    let other = Config { memory, ..running.clone() };
    let next = source.load_again(&other).unwrap();
    assert_eq!(next.memory.geometry.pipes, 3);
    std::fs::write(&path, "memory.segment_bytes = \"12MiB\"\n").unwrap();
    let next = source.load_again(&running).unwrap();
    assert!(!running.keys_fixed_until_restart(&next).is_empty());
}

#[test]
fn an_unknown_key_is_refused_at_every_level() {
    assert_refused(
        "worker = 1\n",
        &["test.toml:1:1", "unknown key `worker`", "did you mean `workers`?"],
    );
    assert_refused(
        "[memory]\n\nchunk_byte = 1\n",
        &["test.toml:3:1", "did you mean `chunk_bytes`?"],
    );
    assert_refused(
        "[limits]\nfoo = 1\n",
        &["test.toml:2:1", "allowed here: connections_max, connections_per_address_max"],
    );
    assert_refused("[timeouts]\n x = 1\n", &["test.toml:2:2", "unknown key `x`"]);
    assert_refused("[exchange]\nx = 1\n", &["test.toml:2:1", "allowed here: receipt"]);
    assert_refused("[[listener]]\nadress = '1'\n", &["test.toml:2:1", "did you mean `address`?"]);
    assert_refused("[session]\n", &["test.toml:1:2", "unknown key `session`"]);
}

#[test]
fn a_wrong_shape_is_refused_with_its_place() {
    assert_refused("workers = 1\nworkers = 2\n", &["test.toml:2:1", "duplicate key"]);
    assert_refused("workers = \n", &["test.toml:1:"]);
    assert_refused("a\n\n[b", &["test.toml:1:"]);
    assert_refused("[[listener]]\n", &["test.toml:1:1", "missing field `address`"]);
    assert_refused("memory = 3\n", &["test.toml:1:10", "a section `[memory]`"]);
    assert_refused(
        "[listener]\naddress = '127.0.0.1:1'\n",
        &["test.toml:1:2", "write `[[listener]]`"],
    );
}

#[test]
fn every_bad_value_is_told_at_once_with_what_is_allowed() {
    let text = "workers = 65\nlog.level = \"loud\"\n[timeouts]\nhead_timeout = \"1 s\"\n";
    let report = refusal(text);
    for part in [
        "test.toml:1:11",
        "bad value for `workers`",
        "allowed: \"auto\" or a number from 1 to 64",
        "test.toml:2:13",
        "allowed: \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        "test.toml:4:16",
        "a duration from 1ms to 24h",
    ] {
        assert!(report.contains(part), "{part:?} is missing in:\n{report}");
    }
    assert_eq!(report.matches("error: ").count(), 3, "{report}");
}

#[test]
fn values_outside_their_range_are_refused() {
    for (section, key, bad) in [
        ("", "workers", "0"),
        ("", "workers", "-1"),
        ("", "workers", "\"2\""),
        ("", "workers", "2.0"),
        ("[log]", "level", "\"INFO\""),
        ("[log]", "level", "3"),
        ("[log]", "format", "\"combined\""),
        ("[log]", "access", "\"access.log\""),
        ("[log]", "access", "\"\""),
        ("[log]", "access", "\"/var/log/a\\nb\""),
        ("[log]", "access_format", "\"text\""),
        ("[memory]", "segment_bytes", "\"7MiB\""),
        ("[memory]", "segment_bytes", "\"2TiB\""),
        ("[memory]", "chunk_bytes", "\"automatic\""),
        ("[memory]", "chunk_bytes", "\"2KiB\""),
        ("[memory]", "chunk_bytes", "\"2MiB\""),
        ("[memory]", "chunk_bytes", "\"96KiB\""),
        ("[memory]", "lane_bytes_max", "\"8MiB\""),
        ("[memory]", "sessions_max", "0"),
        ("[memory]", "sessions_max", "262145"),
        ("[exchange]", "receipt", "\"delivered\""),
        ("[exchange]", "wait_timeout_max", "0"),
        ("[messages]", "wait_timeout", "\"25h\""),
        ("[limits]", "connections_max", "0"),
        ("[limits]", "keepalive_probes_max", "0"),
        ("[limits]", "keepalive_probes_max", "128"),
        ("[limits]", "connections_per_address_max", "65537"),
        ("[limits]", "sessions_per_address_max", "-1"),
        ("[limits]", "unknown_keys_per_second_max", "\"20\""),
        ("[limits]", "head_bytes_max", "0"),
        ("[limits]", "header_fields_max", "129"),
        ("[limits]", "body_bytes_max", "0"),
        ("[limits]", "form_overhead_bytes_max", "true"),
        ("[limits]", "chunk_line_bytes_max", "31"),
        ("[limits]", "trailer_bytes_max", "\"2MiB\""),
        ("[limits]", "linger_bytes_max", "-1"),
        ("[limits]", "patience_connections_max", "1048577"),
        ("[limits]", "rate_bytes_min", "\"1KB\""),
        ("[timeouts]", "head_timeout", "0"),
        ("[timeouts]", "idle_timeout", "\"25h\""),
        ("[timeouts]", "keepalive_idle", "0"),
        ("[timeouts]", "keepalive_idle", "\"1500ms\""),
        ("[timeouts]", "keepalive_interval", "\"10h\""),
        ("[timeouts]", "wait_timeout", "1.5"),
        ("[timeouts]", "session_lifetime", "\"999ms\""),
        ("[timeouts]", "chunk_wait", "-1"),
        ("[timeouts]", "ack_timeout", "9223372036854775807"),
        ("[timeouts]", "linger_timeout", "\"\""),
        ("[timeouts]", "silence_timeout", "\"25h\""),
        ("[timeouts]", "rate_window", "[]"),
        ("[timeouts]", "stop_timeout", "\"1d\""),
    ] {
        let report = refusal(&format!("{section}\n{key} = {bad}\n"));
        let column = key.len() + " = ".len() + 1;
        for part in [
            format!("test.toml:2:{column}"),
            format!("bad value for `{key}`"),
            "allowed: ".to_owned(),
        ] {
            assert!(report.contains(&part), "{part:?} is missing in:\n{report}");
        }
    }
}

#[test]
fn previewers_are_a_short_list_of_short_names() {
    let previewers =
        |text: &str| parse(&format!("previewers = [{text}]\n"), "test").unwrap().previewers;
    assert_eq!(previewers(""), [""; 0]);
    assert_eq!(previewers("'abc', 'A b'"), ["abc", "A b"]);
    let long = "x".repeat(64);
    assert_eq!(previewers(&format!("'{long}'")), [long.as_str()]);
    for bad in
        ["''", "'ab'", "' abc'", "'abc '", "'a\u{e4}bc'", "\"a\\tbc\"", "7", &format!("'x{long}'")]
    {
        let report =
            ["bad value in `previewers`", "test.toml:1:15", "allowed: a part of a User-Agent"];
        assert_refused(&format!("previewers = [{bad}]\n"), &report);
    }
    let many = vec!["'abc'"; 65].join(",");
    assert_refused(&format!("previewers = [{many}]\n"), &["too many `previewers`", "64"]);
    assert_refused("previewers = 'abc'\n", &["test.toml:1:14"]);
}

#[test]
fn a_token_in_place_of_its_file_is_not_quoted() {
    for token in ["3f9a0c5d7e1b24683f9a0c5d7e1b2468", "dGhpcyBpcyBhIHRva2VuIDEyMw"] {
        let text = format!("auth.issue_tokens = ['{token}']\n");
        let report = refusal(&text);
        assert!(report.contains("issue_tokens") && !report.contains(token), "{report}");
    }
}

#[test]
fn workers_have_time_to_start() {
    assert_refused("timeouts.start_timeout = '999ms'\n", &["test.toml:1:26", "from 1s to 24h"]);
    assert!(parse("timeouts.start_timeout = '1s'\n", "test").is_ok());
}

#[test]
fn what_may_be_a_secret_is_not_quoted() {
    const LINE: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7/VJTUt9Us8cK";
    for text in [
        LINE.to_owned(),
        format!("{LINE}\n{LINE}\nABC="),
        format!("token = \"{LINE}\"\n"),
        format!("key = \"{LINE}"),
        format!("workers = \"{LINE}\"\n"),
    ] {
        let report = refusal(&text);
        let windows = LINE.as_bytes().windows(8).map(|it| String::from_utf8_lossy(it).into_owned());
        for window in windows {
            assert!(!report.contains(&window), "{window} is in:\n{report}");
        }
    }
    // Names and paths are.
    let text = "control_socket = \"run/IdontStore2/control_socket_of_relay.sock\"\n";
    assert_refused(text, &["run/IdontStore2/control_socket_of_relay.sock"]);
}
