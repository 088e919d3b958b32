//! The command line: what may be typed, what is done for it, and what the exit code means. Called by `main` alone.
//!
//! Must always hold: no other file ends the process or chooses an exit code; answers go to standard output and
//! complaints to standard error, and a complaint never comes with code 0.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use crate::admin;
use crate::config::{self, Config, Source};
use crate::control::{self, Request};
use crate::master::{self, explain};
use crate::preflight;

/// Where a package puts the configuration of the relay that it runs. `-s` and `status` ask that one, where no other is
/// named; a relay that is started has the built-in configuration then.
const PACKAGED: &str = "/etc/idontstore/idontstore.toml";

/// What to type first.
const EXAMPLES: &str = "\
Examples:
  idontstore                     serve this machine alone; `curl 127.0.0.1:8080` tells how to use it
  idontstore -p 8080             serve all who reach this machine, over plain HTTP
  idontstore -c my.toml          serve as my.toml says: HTTPS, limits, logs
  idontstore -t -c my.toml       test my.toml
  idontstore -c my.toml -s reload   have the running relay read my.toml again

To pass a file: `curl -fsSX POST 127.0.0.1:8080` prints a URL; send by `curl -T FILE URL/`, receive by `curl -fOJ URL`.

Every key of the configuration may come from the environment: IDONTSTORE_LIMITS__BODY_BYTES_MAX=5GiB.
`idontstore -T` prints every key with its value.";

/// A relay by which two people who cannot reach each other pass a file, with curl or a browser. It never stores what passes.
///
/// Without arguments it runs in the foreground at 127.0.0.1:8080 with the built-in configuration.
#[derive(Debug, Parser)]
#[command(
    name = "idontstore",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    after_help = EXAMPLES
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Use this configuration instead of the built-in one
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Listen on this address instead of the configured ones: 0.0.0.0:8080, [::1]:8080, or :8080 for all addresses. May be
    /// repeated
    #[arg(long = "listen", value_name = "ADDRESS", global = true, value_parser = address)]
    listen: Vec<String>,
    /// Listen on this port of all addresses, as `--listen :PORT` does
    #[arg(short = 'p', long = "port", value_name = "PORT", global = true)]
    port: Option<u16>,
    /// Test the configuration, and whether a relay could start with it, and exit
    #[arg(short = 't', long = "test", global = true)]
    test: bool,
    /// Print the configuration with every value worked out, and exit
    #[arg(short = 'T', long = "dump", global = true, conflicts_with = "test")]
    dump: bool,
    /// Send a request to the running relay by its control socket, and wait for the outcome
    #[arg(
        short = 's',
        long = "signal",
        value_name = "REQUEST",
        conflicts_with_all = ["test", "dump", "listen", "port"]
    )]
    signal: Option<Request>,
    /// Print the version
    #[arg(short = 'v', long = "version", action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground (what is done without a command, too)
    Run,
    /// Print what the running relay is doing, as its admin listener tells
    Status,
}

/// How the process ends: the one table of exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    Success = 0,
    /// It could not start, or could not go on.
    Failure = 1,
    /// The command line was wrong.
    Usage = 2,
    /// The configuration was wrong; sysexits.h calls it EX_CONFIG.
    Config = 78,
}

/// The definition of the command line, from which the manual page and the shells' completions are made.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// Does what the command line asks for; `run` is the program itself, and returns when it has been stopped.
pub fn main(run: impl FnOnce(Config, Source) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let exit = match Args::try_parse() {
        Ok(args) => args.dispatch(run, std::env::vars_os(), (&mut io::stdout(), &mut io::stderr())),
        Err(refusal) => usage(&advised(refusal)),
    };
    ExitCode::from(exit as u8)
}

/// An address of `--listen`.
fn address(text: &str) -> Result<String, &'static str> {
    let why = "an IP address and a port are needed, such as 127.0.0.1:8080 or [::1]:8080, or :8080 for all addresses";
    if config::is_address(text) { Ok(text.to_owned()) } else { Err(why) }
}

/// The refusal with what was meant, where a word stands alone that needs an option before it.
fn advised(mut refusal: clap::Error) -> clap::Error {
    let kind = match refusal.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return refusal,
    };
    let Some(ContextValue::String(word)) = refusal.get(kind) else { return refusal };
    let option = if word.starts_with('-') {
        None
    } else if config::is_address(word) {
        Some("--listen")
    } else if word.parse::<u16>().is_ok() {
        Some("-p")
    } else {
        let is_file = word.ends_with(".toml") || word.contains('/') || Path::new(word).is_file();
        is_file.then_some("-c")
    };
    if let Some(option) = option {
        let meant = StyledStr::from(format!("write `idontstore {option} {word}`"));
        refusal.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![meant]));
    }
    refusal
}

/// Prints what clap has to say: the help and the version, which were asked for, or a mistake.
fn usage(refusal: &clap::Error) -> Exit {
    let printed = refusal.print();
    match (refusal.use_stderr(), printed) {
        (true, _) => Exit::Usage,
        (false, Ok(())) => Exit::Success,
        (false, Err(_)) => Exit::Failure,
    }
}

impl Args {
    /// Whether the program itself is asked for, and not something about its configuration.
    fn runs(&self) -> bool {
        !self.test && !self.dump
    }

    fn dispatch(
        self,
        run: impl FnOnce(Config, Source) -> Result<(), Box<dyn Error>>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        (out, err): (&mut impl Write, &mut impl Write),
    ) -> Exit {
        let is_status = matches!(self.command, Some(Command::Status));
        if is_status && (self.port.is_some() || !self.listen.is_empty()) {
            let _ = writeln!(
                err,
                "idontstore: `status` asks a running relay; --listen and -p do not go with it"
            );
            return Exit::Usage;
        }
        if is_status || self.signal.is_some() {
            let (source, hint) = asked(self.config, Path::new(PACKAGED));
            let source = source.with_environment(environment);
            let exit = match self.signal {
                Some(request) => ask(source, request, out, err),
                None => status(&source, out, err),
            };
            if exit != Exit::Success
                && let Some(hint) = hint
            {
                let _ = writeln!(err, "idontstore: {hint}");
            }
            return exit;
        }
        let port = self.port.map(|port| format!(":{port}"));
        let addresses = self.listen.iter().cloned().chain(port).collect();
        let source = self.config.clone().map_or_else(Source::embedded, Source::file);
        let source = source.with_environment(environment).listening_on(addresses);
        if let Some(predecessor) = self.runs().then(master::predecessor).flatten() {
            return match master::take_over(&predecessor, source) {
                Ok(()) => Exit::Success,
                Err(error) => complain(err, &error, Exit::Failure),
            };
        }
        let config = match source.load() {
            Ok(config) => config,
            Err(error) => return complain(err, &error, Exit::Config),
        };
        if self.dump {
            return answer(out, &config.dump());
        }
        if self.test {
            return match preflight::check(&config) {
                Ok(()) => {
                    // Whether they can be written makes no difference to what is answered.
                    let tell = |warning| writeln!(err, "idontstore: warning: {warning}");
                    let _ = config.warnings().iter().try_for_each(tell);
                    answer(out, &format!("{source} is valid\n"))
                }
                Err(error) => complain(err, &error, Exit::Config),
            };
        }
        match run(config, source) {
            Ok(()) => Exit::Success,
            Err(error) => complain(err, error.as_ref(), Exit::Failure),
        }
    }
}

/// Whose program is asked, and what to say if that fails and nobody has named it.
fn asked(config: Option<PathBuf>, packaged: &Path) -> (Source, Option<String>) {
    match config {
        Some(path) => (Source::file(path), None),
        None if packaged.is_file() => {
            let hint = format!(
                "the relay of {} was asked; -c FILE names the configuration of another",
                packaged.display()
            );
            (Source::file(packaged.to_owned()), Some(hint))
        }
        None => {
            let hint = "-c FILE names the configuration of the relay that is to be asked";
            (Source::embedded(), Some(hint.to_owned()))
        }
    }
}

/// Why the running program could not be asked, or did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0} has no `control_socket`, by which the running program could be asked")]
    NoSocket(Source),
    #[error("nobody answers at the control socket {}", path.display())]
    NoAnswer { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Refused(String),
}

fn status(source: &Source, out: &mut impl Write, err: &mut impl Write) -> Exit {
    let address = match source.admin_listen() {
        Ok(address) => address,
        Err(error) => return complain(err, &error, Exit::Config),
    };
    match admin::ask_status(address.as_ref()) {
        Ok(status) => answer(out, &status),
        Err(error) => complain(err, &error, Exit::Failure),
    }
}

fn ask(source: Source, request: Request, out: &mut impl Write, err: &mut impl Write) -> Exit {
    let path = match source.control_socket() {
        Ok(Some(path)) => path,
        Ok(None) => return complain(err, &AskError::NoSocket(source), Exit::Config),
        Err(error) => return complain(err, &error, Exit::Config),
    };
    // Who does not read the notes gets the answer all the same.
    let print = |note: &str| _ = answer(out, &format!("{note}\n"));
    match control::ask(&path, request, print) {
        Ok(Ok(text)) => answer(out, &format!("{text}\n")),
        Ok(Err(why)) => complain(err, &AskError::Refused(why), Exit::Failure),
        Err(source) => complain(err, &AskError::NoAnswer { path, source }, Exit::Failure),
    }
}

fn answer(out: &mut impl Write, text: &str) -> Exit {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failure,
    }
}

/// Writes the error and what caused it.
fn complain(err: &mut impl Write, error: &dyn Error, exit: Exit) -> Exit {
    // Nobody is left to tell if this fails, and the exit code says it all the same.
    let _ = writeln!(err, "idontstore: {}", explain(error));
    exit
}

#[cfg(test)]
mod tests {
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
            assert!(err.contains("nobody answers at the control socket"), "{err}");
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
        for arguments in [&["-p", "5"][..], &["--port", "5"], &["--listen", ":5"], &["run", "-p5"]]
        {
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
        assert!(err.contains("something that is no socket is there"), "{err}");
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
        for args in
            [&["-x"][..], &["walk"], &["-c"], &["-t", "-T"], &["run", "fast"], &["-t", "-t"]]
        {
            assert!(refused(args).use_stderr(), "{args:?}");
            assert_eq!(refused(args).exit_code(), i32::from(Exit::Usage as u8), "{args:?}");
        }
        for args in [["-v"], ["--version"], ["-h"], ["--help"]] {
            assert!(!refused(&args).use_stderr(), "{args:?}");
        }
        assert_eq!(
            refused(&["-v"]).to_string(),
            format!("idontstore {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
}
