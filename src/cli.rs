//! The command line: what may be typed, what it does, and what the exit code means. Called by `main` alone.
//!
//! Invariant: no other file ends the process or chooses an exit code; answers go to standard output and complaints to
//! standard error, and a complaint never comes with code 0.

mod asking;
#[cfg(test)]
mod tests;
mod transfer;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use crate::config::{self, Config, Source};
use crate::control::{ControlRequest, Line};
use crate::master::{self, explain};
use crate::preflight;
use crate::session::SessionHash;

use asking::{ask, asked, status};
use transfer::{Given, ReceiveWords, SendWords};

/// The packaged relay's configuration. `-s` and `status` use it if no other is named. A relay that starts uses the
/// built-in configuration then.
const PACKAGED: &str = "/etc/idontstore/idontstore.toml";

/// The commands that a link to the program may be named after.
const RELAY: &str = "relay";
const SEND: &str = "send";
const RECEIVE: &str = "receive";

/// Commands to try first, at the end of the help.
const EXAMPLES: &str = "\
Examples:
  idontstore                     serve this machine only; `curl 127.0.0.1:8080` prints how to use it
  idontstore relay :9021         the same at this address; so does a link named `relay`: ./relay :9021
  idontstore send HOST:9021 FILE   send FILE through the relay there, and print the code for the receiver
  idontstore receive HOST:9021 CODE   receive it
  idontstore -p 8080             serve everyone who reaches this machine, over plain HTTP
  idontstore -c my.toml          serve as my.toml says: HTTPS, limits, logs
  idontstore -t -c my.toml       test my.toml
  idontstore -c my.toml -s reload   make the running relay read my.toml again

To pass a file: `curl -fsSX POST 127.0.0.1:8080` prints a URL; send by `curl -T FILE URL/`, receive by `curl -fOJ URL`.

The environment can set every key of the configuration: IDONTSTORE_LIMITS__BODY_BYTES_MAX=5GiB.
`idontstore -T` prints every key with its value.";

/// Relay a file between two people who cannot reach each other, with curl or a browser. The relay never stores what passes.
///
/// The default is to run in the foreground at 127.0.0.1:8080 with the built-in configuration.
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
    /// Test the configuration and whether a relay could start with it, then exit
    #[arg(short = 't', long = "test", global = true)]
    test: bool,
    /// Print the configuration with every value computed, then exit
    #[arg(short = 'T', long = "dump", global = true, conflicts_with = "test")]
    dump: bool,
    /// Send a request to the running relay over its control socket, and wait for the outcome
    #[arg(
        short = 's',
        long = "signal",
        value_name = "REQUEST",
        conflicts_with_all = ["test", "dump", "listen", "port"]
    )]
    signal: Option<ControlRequest>,
    /// Print the version
    #[arg(short = 'v', long = "version", action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground (the default)
    Run,
    /// Run in the foreground, and listen on ADDRESS: `relay :9021`. A link named `relay` needs no command: `./relay :9021`
    Relay {
        #[arg(value_name = "ADDRESS", value_parser = address)]
        address: String,
    },
    /// Print the status of the running relay, read from its admin listener
    Status,
    /// End a session of the running relay over its control socket; SESSION is its hash, as the status and the access log
    /// show it
    End {
        #[arg(value_name = "SESSION", value_parser = session_hash)]
        session: SessionHash,
    },
    /// Send a file to a person: prints a code, and waits for `receive` with this code. The relay reads nothing of the file
    Send(SendWords),
    /// Receive the file of a person who has run `send` and told you the code
    Receive(ReceiveWords),
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Relay { .. } => RELAY,
            Self::Status => "status",
            Self::End { .. } => "end",
            Self::Send(_) => SEND,
            Self::Receive(_) => RECEIVE,
        }
    }
}

/// The exit codes: the one table of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    Success = 0,
    /// The program could not start, or could not continue.
    Failure = 1,
    /// The command line was wrong.
    Usage = 2,
    /// The other side of a transfer has another code.
    WrongCode = 3,
    /// The other side does not take the file.
    Refused = 4,
    /// The configuration was wrong; sysexits.h calls it EX_CONFIG.
    Config = 78,
}

/// The definition of the command line, from which the manual page and the shells' completions are made.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// Does what the command line asks for. `run` runs the relay, and returns when it has stopped.
pub fn main(run: impl FnOnce(Config, Source) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let exit = match Args::try_parse_from(called_as(std::env::args_os())) {
        Ok(args) => args.dispatch(run, std::env::vars_os(), (&mut io::stdout(), &mut io::stderr())),
        Err(refusal) => usage(&advised(refusal)),
    };
    ExitCode::from(exit as u8)
}

/// The arguments, with the command that the program's own name stands for. A relay's name does so where an address follows.
fn called_as(arguments: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut arguments = arguments.into_iter().peekable();
    let program = arguments.next();
    let name = program.as_deref().map(Path::new).and_then(Path::file_name);
    let first = arguments.peek().and_then(|first| first.to_str());
    let command = match name.and_then(|name| name.to_str()) {
        Some(RELAY) if first.is_some_and(config::is_address) => Some(RELAY),
        Some(SEND) => Some(SEND),
        Some(RECEIVE) => Some(RECEIVE),
        _ => None,
    };
    let command = command.map(OsString::from);
    program.into_iter().chain(command).chain(arguments)
}

/// An address of `--listen`.
fn address(text: &str) -> Result<String, &'static str> {
    let why = "an IP address and a port are needed, such as 127.0.0.1:8080 or [::1]:8080, or :8080 for all addresses";
    if config::is_address(text) { Ok(text.to_owned()) } else { Err(why) }
}

/// A session's hash.
fn session_hash(text: &str) -> Result<SessionHash, &'static str> {
    SessionHash::parse(text.as_bytes()).ok_or("12 hexadecimal digits in small letters are needed")
}

/// Adds the meant option to a refusal, if a word stands alone that needs one before it.
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

/// Prints clap's text: the help, the version, or a mistake.
fn usage(refusal: &clap::Error) -> Exit {
    let printed = refusal.print();
    match (refusal.use_stderr(), printed) {
        (true, _) => Exit::Usage,
        (false, Ok(())) => Exit::Success,
        (false, Err(_)) => Exit::Failure,
    }
}

impl Args {
    /// Whether the relay is to run, and not only its configuration to be read.
    fn runs(&self) -> bool {
        !self.test && !self.dump
    }

    fn dispatch(
        self,
        run: impl FnOnce(Config, Source) -> Result<(), Box<dyn Error>>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        (out, err): (&mut impl Write, &mut impl Write),
    ) -> Exit {
        if let Some(command) = &self.command
            && self.signal.is_some()
        {
            let name = command.name();
            let _ =
                writeln!(err, "idontstore: `{name}` and -s are two things: ask for one of them");
            return Exit::Usage;
        }
        let asks = match &self.command {
            Some(command @ (Command::Status | Command::End { .. })) => Some(command.name()),
            _ => None,
        };
        let transfers = matches!(self.command, Some(Command::Send(_) | Command::Receive(_)));
        if transfers
            && (self.config.is_some()
                || self.port.is_some()
                || !self.listen.is_empty()
                || !self.runs())
        {
            let _ = writeln!(
                err,
                "idontstore: `send` and `receive` are no relay: they take no -c, --listen, -p, -t or -T"
            );
            return Exit::Usage;
        }
        if let Some(command) = asks
            && (self.port.is_some() || !self.listen.is_empty() || !self.runs())
        {
            let _ = writeln!(
                err,
                "idontstore: `{command}` asks a running relay: it takes no --listen, -p, -t or -T"
            );
            return Exit::Usage;
        }
        if asks.is_some() || self.signal.is_some() {
            let (source, hint) = asked(self.config, Path::new(PACKAGED));
            let source = source.with_environment(environment);
            let exit = match (self.signal, self.command) {
                (Some(request), _) => ask(source, Line::Program(request), out, err),
                (None, Some(Command::End { session })) => ask(source, Line::End(session), out, err),
                (None, _) => status(&source, out, err),
            };
            if exit != Exit::Success
                && let Some(hint) = hint
            {
                let _ = writeln!(err, "idontstore: {hint}");
            }
            return exit;
        }
        match self.command {
            Some(Command::Send(words)) => {
                return transfer::send(words, &Given::of(environment), (out, err));
            }
            Some(Command::Receive(words)) => {
                return transfer::receive(words, &Given::of(environment), err);
            }
            _ => {}
        }
        let port = self.port.map(|port| format!(":{port}"));
        let own = match &self.command {
            Some(Command::Relay { address }) => Some(address.clone()),
            _ => None,
        };
        let addresses = self.listen.iter().cloned().chain(port).chain(own).collect();
        let source = self.config.clone().map_or_else(Source::embedded, Source::file);
        let source = source.with_environment(environment).listening_on(addresses);
        if let Some(previous_program) = self.runs().then(master::previous_program).flatten() {
            return match master::take_over(&previous_program, source) {
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
                    // Warnings that cannot be written do not change the answer.
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

fn answer(out: &mut impl Write, text: &str) -> Exit {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failure,
    }
}

/// Writes the error and what caused it.
fn complain(err: &mut impl Write, error: &dyn Error, exit: Exit) -> Exit {
    // A failure here cannot be reported, and the exit code tells it anyway.
    let _ = writeln!(err, "idontstore: {}", explain(error));
    exit
}
