//! The command line from the outside: what is answered, and with which exit code.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::config;
use std::net::TcpListener;
use std::path::Path;

/// Parses and dispatches: the exit, what was run, standard output and standard error.
fn cli(args: &[&str]) -> (Exit, Option<Config>, String, String) {
    let args = Args::try_parse_from(["idontstore"].iter().chain(args)).unwrap();
    let (mut ran, mut out, mut err) = (None, Vec::new(), Vec::new());
    let run = |config: Config, _| {
        let fail = config.workers.get() == 13;
        ran = Some(config);
        if fail { Err(Box::from("thirteen workers")) } else { Ok(()) }
    };
    let exit = args.dispatch(run, Vec::new(), (&mut out, &mut err));
    (exit, ran, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn refused(args: &[&str]) -> clap::Error {
    Args::try_parse_from(["idontstore"].iter().chain(args)).unwrap_err()
}

fn file(dir: &Path, text: &str) -> String {
    let path = dir.join("test.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

#[test]
fn runs_the_built_in_configuration_unless_told_otherwise() {
    for args in [&[][..], &["run"]] {
        let (exit, ran, out, err) = cli(args);
        assert_eq!((exit, ran), (Exit::Success, Some(config::embedded())));
        assert_eq!((out.as_str(), err.as_str()), ("", ""));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "workers = 5\n");
    for args in [["run", "-c", &path], ["-c", &path, "run"], ["run", "--config", &path]] {
        assert_eq!(cli(&args).1.unwrap().workers.get(), 5);
    }
}

#[test]
fn a_failed_run_is_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let (exit, _, out, err) = cli(&["-c", &file(dir.path(), "workers = 13\n")]);
    assert_eq!(exit, Exit::Failure);
    assert_eq!((out.as_str(), err.as_str()), ("", "idontstore: thirteen workers\n"));
}

#[test]
fn a_bad_configuration_is_code_78_whatever_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "\nworkers = 0\n");
    for args in [&["-c", &path][..], &["-t", "-c", &path], &["-T", "-c", &path]] {
        let (exit, ran, out, err) = cli(args);
        assert_eq!((exit, ran, out.as_str()), (Exit::Config, None, ""));
        assert!(err.contains(&format!("{path}:2:11")), "{err}");
    }
    let missing = dir.path().join("missing.toml");
    let (exit, _, _, err) = cli(&["-t", "-c", missing.to_str().unwrap()]);
    assert_eq!(exit, Exit::Config);
    assert_eq!(err.matches("No such file").count(), 1, "{err}");
}

#[test]
fn the_running_program_is_found_in_a_file_that_is_no_good() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control");
    let bad = "workers = 0\nnonsense = [1]\n[[listener]]\naddress = 5\n\
               tls = { certificate = 'none.pem', key = 'none.pem' }\n";
    let path = file(dir.path(), &format!("control_socket = {socket:?}\n{bad}"));
    for request in ["stop", "quit", "reload"] {
        let (exit, ran, _, err) = cli(&["-c", &path, "-s", request]);
        assert_eq!((exit, ran), (Exit::Failure, None));
        assert!(err.contains("no answer at the control socket"), "{err}");
    }
    let admin = format!("{bad}[admin]\nlisten = 'unix:{}'\n", socket.display());
    let (exit, _, _, err) = cli(&["-c", &file(dir.path(), &admin), "status"]);
    assert_eq!(exit, Exit::Failure);
    assert!(err.contains("does not answer"), "{err}");
}

#[test]
fn a_running_program_that_cannot_be_found_is_code_78() {
    let dir = tempfile::tempdir().unwrap();
    for (text, place, asked) in [
        ("\ncontrol_socket = 'here'\n", ":2:18", &["-s", "stop"][..]),
        ("[admin]\nlisten = 'there'\n", ":2:10", &["status"]),
        ("workers = 1\nnonsense\n", ":2:", &["-s", "quit"]),
        ("workers = 1\nnonsense\n", ":2:", &["status"]),
    ] {
        let path = file(dir.path(), text);
        let (exit, _, out, err) = cli(&[&["-c", &path], asked].concat());
        assert_eq!((exit, out.as_str()), (Exit::Config, ""));
        assert!(err.contains(&format!("{path}{place}")), "{err}");
    }
    let (exit, _, _, err) = cli(&["-c", &file(dir.path(), ""), "-s", "stop"]);
    assert_eq!(exit, Exit::Config);
    assert!(err.contains("has no `control_socket`"), "{err}");
}

#[test]
fn the_packaged_configuration_is_asked_where_no_other_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let packaged = dir.path().join("packaged.toml");
    let (source, hint) = asked(None, &packaged);
    assert_eq!(source, Source::embedded());
    assert!(hint.unwrap().contains("-c FILE"));
    std::fs::write(&packaged, "").unwrap();
    let (source, hint) = asked(None, &packaged);
    assert_eq!(source, Source::file(packaged.clone()));
    assert!(hint.unwrap().contains(packaged.to_str().unwrap()));
    let (source, hint) = asked(Some("other.toml".into()), &packaged);
    assert_eq!((source, hint), (Source::file("other.toml".into()), None));
}

#[test]
fn the_command_line_is_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "workers = 5\n[[listener]]\naddress = '127.0.0.1:1'\n");
    let environment = [("IDONTSTORE_LISTENER", "127.0.0.1:2"), ("IDONTSTORE_WORKERS", "6")];
    let ran = |arguments: &[&str]| {
        let arguments = [&["idontstore", "-c", path.as_str()], arguments].concat();
        let args = Args::try_parse_from(arguments).unwrap();
        let mut ran = None;
        let run = |config: Config, _| {
            ran = Some(config);
            Ok(())
        };
        let variables = environment.map(|(name, value)| (name.into(), value.into()));
        let exit = args.dispatch(run, variables, (&mut Vec::new(), &mut Vec::new()));
        assert_eq!(exit, Exit::Success);
        let config = ran.unwrap();
        let addresses: Vec<_> = config.listeners.iter().map(|it| it.address).collect();
        (config.workers.get(), addresses)
    };
    let addresses = |texts: &[&str]| -> Vec<std::net::SocketAddr> {
        texts.iter().map(|it| it.parse().unwrap()).collect()
    };
    assert_eq!(ran(&[]), (6, addresses(&["127.0.0.1:2"])));
    let two = ["--listen", "127.0.0.1:3", "--listen=[::1]:4"];
    assert_eq!(ran(&two), (6, addresses(&["127.0.0.1:3", "[::1]:4"])));
    let all = if crate::sys::listener::has_ipv6() { "[::]:5" } else { "0.0.0.0:5" };
    for arguments in [&["-p", "5"][..], &["--port", "5"], &["--listen", ":5"], &["run", "-p5"]] {
        assert_eq!(ran(arguments), (6, addresses(&[all])), "{arguments:?}");
    }
}

#[test]
fn a_word_that_needs_an_option_is_told_which() {
    for (words, meant) in [
        (&["my.toml"][..], "write `idontstore -c my.toml`"),
        (&["run", "/etc/my"], "write `idontstore -c /etc/my`"),
        (&["8080"], "write `idontstore -p 8080`"),
        (&[":8080"], "write `idontstore --listen :8080`"),
        (&["127.0.0.1:8080"], "write `idontstore --listen 127.0.0.1:8080`"),
    ] {
        let said = advised(refused(words)).to_string();
        assert!(said.contains(meant), "{said}");
    }
    for words in [&["status", "-p", "80"][..], &["status", "--listen", ":80"]] {
        assert_eq!(cli(words).0, Exit::Usage);
    }
    assert!(refused(&["-s", "stop", "-p", "80"]).use_stderr());
    assert!(!advised(refused(&["walk"])).to_string().contains("idontstore -"));
    for words in [["--listen", "localhost:1"], ["--listen", "127.0.0.1"], ["-p", "65536"]] {
        assert_eq!(refused(&words).exit_code(), i32::from(Exit::Usage as u8), "{words:?}");
    }
}

#[test]
fn test_names_what_it_found_valid_and_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("[[listener]]\naddress = '{}'\n", held.local_addr().unwrap());
    let path = file(dir.path(), &text);
    let (exit, ran, out, err) = cli(&["-t", "-c", &path]);
    assert_eq!((exit, ran, err.as_str()), (Exit::Success, None, ""));
    assert_eq!(out, format!("configuration {path} is valid\n"));
}

#[test]
fn test_refuses_an_address_of_another_machine() {
    let dir = tempfile::tempdir().unwrap();
    // TEST-NET-3, RFC 5737: no machine has it.
    let path = file(dir.path(), "[[listener]]\naddress = '203.0.113.7:0'\n");
    let (exit, _, out, err) = cli(&["-t", "-c", &path]);
    assert_eq!((exit, out.as_str()), (Exit::Config, ""));
    assert!(err.starts_with("idontstore: cannot listen on 203.0.113.7:0: "), "{err}");
}

#[test]
fn test_refuses_a_socket_in_a_directory_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("missing/socket");
    for text in [
        format!("control_socket = {socket:?}\n"),
        format!("[admin]\nlisten = 'unix:{}'\n", socket.display()),
    ] {
        let (exit, _, out, err) = cli(&["-t", "-c", &file(dir.path(), &text)]);
        assert_eq!((exit, out.as_str()), (Exit::Config, ""));
        let told = format!("idontstore: cannot listen on unix:{}: ", socket.display());
        assert!(err.starts_with(&told), "{err}");
    }
}

#[test]
fn test_refuses_a_socket_where_something_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    std::fs::write(&path, "text").unwrap();
    let text = format!("control_socket = {path:?}\n");
    let (exit, _, _, err) = cli(&["-t", "-c", &file(dir.path(), &text)]);
    assert_eq!(exit, Exit::Config);
    assert!(err.contains("the path exists and is not a socket"), "{err}");
    assert_eq!(std::fs::read(&path).unwrap(), b"text");
}

#[test]
fn dump_prints_a_configuration() {
    let (exit, ran, out, err) = cli(&["-T"]);
    assert_eq!((exit, ran, err.as_str()), (Exit::Success, None, ""));
    let mut expected = config::embedded();
    expected.memory.pipes_are_auto = false;
    assert_eq!(config::parse(&out, "dump").unwrap(), expected);
}

#[test]
fn mistakes_are_usage_errors_and_questions_are_not() {
    for args in [&["-x"][..], &["walk"], &["-c"], &["-t", "-T"], &["run", "fast"], &["-t", "-t"]] {
        assert!(refused(args).use_stderr(), "{args:?}");
        assert_eq!(refused(args).exit_code(), i32::from(Exit::Usage as u8), "{args:?}");
    }
    for args in [["-v"], ["--version"], ["-h"], ["--help"]] {
        assert!(!refused(&args).use_stderr(), "{args:?}");
    }
    assert_eq!(refused(&["-v"]).to_string(), format!("idontstore {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_link_named_after_a_command_needs_no_command_and_relay_listens_at_one_address() {
    let called = |words: &[&str]| {
        let words = called_as(words.iter().map(OsString::from));
        words.map(|it| it.into_string().unwrap()).collect::<Vec<_>>()
    };
    for words in [["./relay", ":9021"], ["/usr/local/bin/relay", ":9021"]] {
        assert_eq!(called(&words), [words[0], "relay", ":9021"]);
    }
    assert_eq!(called(&["./send", "h:1", "file"]), ["./send", "send", "h:1", "file"]);
    assert_eq!(called(&["/bin/receive"]), ["/bin/receive", "receive"]);
    // A program of that name is a relay like any other.
    for words in [
        &["relay"][..],
        &["relay", "-c", "a"],
        &["relay", "relay", ":1"],
        &["relay", "9021"],
        &["idontstore", ":9021"],
        &["idontstore", "relay", ":9021"],
        &["relays", ":9021"],
        &[],
    ] {
        assert_eq!(called(words), words);
    }
    let (exit, ran, ..) = cli(&["relay", "127.0.0.1:9021"]);
    let listeners = ran.unwrap().listeners;
    assert_eq!((exit, listeners.len()), (Exit::Success, 1));
    assert_eq!(listeners[0].address.to_string(), "127.0.0.1:9021");
    assert_eq!(listeners[0].protocols, config::embedded().listeners[0].protocols);
    for wrong in [&["relay"][..], &["relay", "9021"], &["relay", "localhost:9021"]] {
        assert!(matches!(refused(wrong).exit_code(), 2), "{wrong:?}");
    }
}

#[test]
fn a_command_that_asks_a_running_relay_goes_with_nothing_else() {
    for words in [
        &["-s", "stop", "status"][..],
        &["-s", "stop", "end", "0123456789ab"],
        &["-s", "quit", "relay", ":1"],
        &["end", "0123456789ab", "-t"],
        &["status", "-T"],
        &["end", "0123456789ab", "-p", "1"],
    ] {
        let (exit, ran, out, err) = cli(words);
        assert_eq!((exit, ran.is_none(), out.as_str()), (Exit::Usage, true, ""), "{words:?}");
        assert!(err.starts_with("idontstore: `"), "{err}");
    }
}
