//! `send` and `receive`: reads their words, tells people what happens, and chooses the exit code. The crate `client` does
//! the work.

use client::{ClientError, Code, Place, RelayAddress, Sender, Source};
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::{Exit, answer, complain};
use crate::quoted::Quoted;

/// The variables of the environment that stand for a word.
const RELAY_VARIABLE: &str = "IDONTSTORE_RELAY";
const CODE_VARIABLE: &str = "IDONTSTORE_CODE";
/// The word for standard input and output.
const DASH: &str = "-";

/// The words behind `send`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "idontstore send [--quiet] [RELAY] FILE\n       idontstore send [--quiet] [RELAY] -"
)]
pub(super) struct SendWords {
    /// The relay as HOST:PORT, unless $IDONTSTORE_RELAY names it; then the file, or `-` for standard input
    #[arg(value_name = "RELAY] [FILE", required = true, num_args = 1..=2)]
    words: Vec<OsString>,
    /// Print nothing but the code and errors
    #[arg(long)]
    quiet: bool,
}

/// The words behind `receive`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "idontstore receive [--quiet] [--overwrite] [RELAY] [CODE] [FOLDER]\n       \
                            idontstore receive [--quiet] [RELAY] [CODE] -"
)]
pub(super) struct ReceiveWords {
    /// The relay as HOST:PORT, unless $IDONTSTORE_RELAY names it; the code, unless $IDONTSTORE_CODE has it or you type it
    /// when asked; then the folder (this one), or `-` for standard output
    #[arg(value_name = "RELAY] [CODE] [FOLDER", num_args = 0..=3)]
    words: Vec<OsString>,
    /// Replace a file of the same name
    #[arg(long)]
    overwrite: bool,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

/// A command line that is wrong, in words for people.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("which relay? Write its HOST:PORT, or set {RELAY_VARIABLE}")]
    NoRelay,
    #[error("{} is no relay: its HOST:PORT is needed, such as relay.example:8080 or [::1]:8080", Quoted(.0))]
    BadRelay(String),
    #[error("`send` takes one file or {DASH}, and only a relay's HOST:PORT may come before that")]
    NoFile,
    #[error("{0}")]
    Code(#[from] client::code::CodeError),
    #[error("no code is there, and no terminal to ask for it")]
    NoCode,
    #[error("the code cannot be written to standard output")]
    NoOutput,
    #[error("standard output is a terminal: name a folder, or send the output on")]
    Terminal,
    #[error("{} is a word too many", Quoted(.0))]
    TooMany(String),
}

/// The environment, as far as it stands for words.
pub(super) struct Given {
    relay: Option<String>,
    code: Option<String>,
}

impl Given {
    pub(super) fn of(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut it = Self { relay: None, code: None };
        for (name, value) in environment {
            let value = value.into_string().ok().filter(|value| !value.trim().is_empty());
            match name.to_str() {
                Some(RELAY_VARIABLE) => it.relay = value,
                Some(CODE_VARIABLE) => it.code = value,
                _ => {}
            }
        }
        it
    }

    /// Takes the relay from the first of `words` if that names one, or else from the environment.
    fn relay(&self, words: &mut Vec<OsString>) -> Result<RelayAddress, Wrong> {
        let first = words.first().and_then(|word| word.to_str());
        if let Some(relay) = first.and_then(RelayAddress::parse) {
            words.remove(0);
            return Ok(relay);
        }
        if let Some(url) = first.filter(|it| it.contains("://")) {
            return Err(Wrong::BadRelay(url.to_owned()));
        }
        let named = self.relay.as_deref().ok_or(Wrong::NoRelay)?;
        RelayAddress::parse(named).ok_or_else(|| Wrong::BadRelay(named.to_owned()))
    }

    /// Takes the code from the first of `words` if that is one, or else from the environment, or from `ask`.
    fn code(
        &self,
        words: &mut Vec<OsString>,
        ask: impl FnOnce() -> Option<String>,
    ) -> Result<Code, Wrong> {
        let first = words.first().map(|word| word.to_string_lossy().into_owned());
        if let (Some(word), None) = (&first, &self.code) {
            let code = Code::parse(word)?;
            words.remove(0);
            return Ok(code);
        }
        if let Some(code) = first.and_then(|word| Code::parse(&word).ok()) {
            words.remove(0);
            return Ok(code);
        }
        let text = self.code.clone().or_else(ask).ok_or(Wrong::NoCode)?;
        Ok(Code::parse(&text)?)
    }
}

/// Asks at the terminal for a code.
fn ask() -> Option<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return None;
    }
    eprint!("code: ");
    let mut line = String::new();
    stdin.lock().read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    Some(line)
}

pub(super) fn send(
    SendWords { mut words, quiet }: SendWords,
    given: &Given,
    (out, err): (&mut impl Write, &mut impl Write),
) -> Exit {
    // A single word is what is sent, even if it looks like a relay.
    let relay = match words.len() {
        1 => given.relay(&mut Vec::new()),
        _ => given.relay(&mut words),
    };
    let relay = match relay {
        Ok(relay) => relay,
        Err(wrong) => return complain(err, &wrong, Exit::Usage),
    };
    let [what] = words.as_slice() else { return complain(err, &Wrong::NoFile, Exit::Usage) };
    let source = if what == DASH { Ok(Source::stdin()) } else { Source::file(Path::new(what)) };
    let sender = source.and_then(|source| Sender::register(&relay, source));
    let sender = match sender {
        Ok(sender) => sender,
        Err(error) => return failed(err, &error),
    };
    if answer(out, &format!("{}\n", sender.code())) != Exit::Success {
        return complain(err, &Wrong::NoOutput, Exit::Failure);
    }
    if !quiet {
        let (relay, minutes) = (relay.as_str(), sender.lifetime().as_secs() / 60);
        // The words are on standard output, and that may be no terminal.
        let _ = writeln!(err, "within {minutes} minutes: idontstore receive {relay} CODE");
    }
    match sender.send() {
        Ok(bytes) => {
            if !quiet {
                let _ = writeln!(err, "confirmed: the receiver has all {bytes} bytes");
            }
            Exit::Success
        }
        Err(error) => failed(err, &error),
    }
}

pub(super) fn receive(
    ReceiveWords { mut words, overwrite, quiet }: ReceiveWords,
    given: &Given,
    err: &mut impl Write,
) -> Exit {
    let read = given.relay(&mut words).and_then(|relay| {
        let code = given.code(&mut words, ask)?;
        let place = words.first().cloned();
        match words.into_iter().nth(1) {
            Some(word) => Err(Wrong::TooMany(word.to_string_lossy().into_owned())),
            None => Ok((relay, code, place)),
        }
    });
    let (relay, code, place) = match read {
        Ok(read) => read,
        Err(wrong) => return complain(err, &wrong, Exit::Usage),
    };
    let place = match place {
        // A stranger's bytes can do much to a terminal.
        Some(word) if word == DASH && io::stdout().is_terminal() => {
            return complain(err, &Wrong::Terminal, Exit::Usage);
        }
        Some(word) if word == DASH => Place::Stdout,
        word => Place::Folder { path: folder(word.as_deref()), overwrites: overwrite },
    };
    match client::receive(&relay, &code, &place) {
        Ok(received) => {
            if let (Some(path), false) = (&received.path, quiet) {
                let _ = writeln!(err, "received {}, {} bytes", path.display(), received.bytes);
            }
            Exit::Success
        }
        Err(error) => failed(err, &error),
    }
}

fn folder(word: Option<&OsStr>) -> PathBuf {
    word.map_or_else(|| PathBuf::from("."), PathBuf::from)
}

fn failed(err: &mut impl Write, error: &ClientError) -> Exit {
    let exit = match error {
        ClientError::WrongCode(_) => Exit::WrongCode,
        ClientError::Refused(_) => Exit::Refused,
        _ => Exit::Failure,
    };
    complain(err, error, exit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CODE: &str = "KEY-guitar-lemon";

    fn given(relay: Option<&str>, code: Option<&str>) -> Given {
        let pairs = [(RELAY_VARIABLE, relay), (CODE_VARIABLE, code)];
        let set = pairs.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into())));
        Given::of(set)
    }

    /// The relay, the code and what is left of the words, or what is wrong.
    fn read(given: &Given, words: &str) -> Result<(String, String, Vec<OsString>), Wrong> {
        let mut words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        let relay = given.relay(&mut words)?.as_str().to_owned();
        let code = given.code(&mut words, || None)?.to_string();
        Ok((relay, code, words))
    }

    #[test]
    fn the_environment_stands_for_words_that_are_absent() {
        let (none, relay, both) =
            (given(None, None), given(Some("r:1"), None), given(Some("r:1"), Some(CODE)));
        for (given, words, relay, left) in [
            (&none, "h:2 KEY-guitar-lemon", "h:2", 0),
            (&none, "h:2 KEY-guitar-lemon out", "h:2", 1),
            (&relay, "KEY-guitar-lemon out", "r:1", 1),
            (&relay, "h:2 KEY-guitar-lemon", "h:2", 0),
            (&both, "", "r:1", 0),
            (&both, "out", "r:1", 1),
            (&both, "KEY-guitar-lemon out", "r:1", 1),
        ] {
            let (found, code, rest) = read(given, words).unwrap();
            assert_eq!((&*found, &*code, rest.len()), (relay, CODE, left), "{words:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let (none, relay) = (given(None, None), given(Some("r:1"), None));
        for (given, words, says) in [
            (&none, "KEY-guitar-lemon", "which relay?"),
            (&relay, "http://h:2 KEY-guitar-lemon", "is no relay"),
            (&given(Some("http://h"), None), "KEY-guitar-lemon", "is no relay"),
            (&relay, "", "no code is there"),
            (&relay, "KEY-guitarr-lemon", "perhaps \"guitar\""),
            (&relay, "out", "a code has a first part"),
        ] {
            let wrong = read(given, words).unwrap_err().to_string();
            assert!(wrong.contains(says), "{words:?}: {wrong}");
        }
    }
}
