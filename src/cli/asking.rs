//! Asks the running program: over its control socket (`-s`), and for its status.

use super::{Exit, answer, complain};
use crate::admin;
use crate::config::Source;
use crate::control::{self, Line};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Chooses the program to ask, and the hint to print if that fails and no configuration was named.
pub(super) fn asked(config: Option<PathBuf>, packaged: &Path) -> (Source, Option<String>) {
    match config {
        Some(path) => (Source::file(path), None),
        None if packaged.is_file() => {
            let hint = format!(
                "this asked the relay of {}: use -c FILE for another one",
                packaged.display()
            );
            (Source::file(packaged.to_owned()), Some(hint))
        }
        None => {
            let hint = "use -c FILE to name the configuration of the relay to ask";
            (Source::embedded(), Some(hint.to_owned()))
        }
    }
}

/// Why the running program could not be asked, or did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0} has no `control_socket`, so nothing can be sent to the running program")]
    NoSocket(Source),
    #[error("no answer at the control socket {}", path.display())]
    NoAnswer { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Refused(String),
}

pub(super) fn status(source: &Source, out: &mut impl Write, err: &mut impl Write) -> Exit {
    let address = match source.admin_listen() {
        Ok(address) => address,
        Err(error) => return complain(err, &error, Exit::Config),
    };
    match admin::ask_status(address.as_ref()) {
        Ok(status) => answer(out, &status),
        Err(error) => complain(err, &error, Exit::Failure),
    }
}

pub(super) fn ask(source: Source, line: Line, out: &mut impl Write, err: &mut impl Write) -> Exit {
    let path = match source.control_socket() {
        Ok(Some(path)) => path,
        Ok(None) => return complain(err, &AskError::NoSocket(source), Exit::Config),
        Err(error) => return complain(err, &error, Exit::Config),
    };
    // A reader that does not take the notes gets the answer anyway.
    let print = |note: &str| _ = answer(out, &format!("{note}\n"));
    match control::ask(&path, line, print) {
        Ok(Ok(text)) => answer(out, &format!("{text}\n")),
        Ok(Err(why)) => complain(err, &AskError::Refused(why), Exit::Failure),
        Err(source) => complain(err, &AskError::NoAnswer { path, source }, Exit::Failure),
    }
}
