//! What a start says of itself: an event for the log, with a field for each fact, and lines on standard output for the
//! person or program that has started the relay.
//!
//! A terminal is told what to try as well. A program that reads standard output finds there where the relay listens, a line
//! for each listener, or nothing, where it may expect JSON.

use crate::config::LogFormat;
use crate::sys::private::{self, Address};
use crate::worker::Generation;
use std::io::{self, IsTerminal, Write};

/// What there is to say.
#[derive(Debug)]
pub(super) struct Greeting {
    urls: Vec<String>,
    admin: Option<Address>,
    workers: usize,
    is_json: bool,
}

impl Greeting {
    pub(super) fn of(generation: &Generation) -> Self {
        let config = &generation.config;
        // The kernel may have chosen the port.
        let admin = generation.admin.as_deref().and_then(private::local_address).map(Address::Tcp);
        Self {
            urls: generation.listened_on().map(|(_, url)| url).collect(),
            admin: admin.or_else(|| config.admin.listen.clone()),
            workers: config.workers.get(),
            is_json: config.log.format == LogFormat::Json,
        }
    }

    /// Logs it, as `what` has happened.
    pub(super) fn log(&self, what: &str) {
        let version = env!("CARGO_PKG_VERSION");
        let (pid, workers) = (std::process::id(), self.workers as u64);
        let listeners = self.urls.join(" ");
        let admin = self.admin.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        tracing::info!(version, pid, workers, listeners, admin, "{what}");
    }

    /// Prints it on standard output.
    pub(super) fn print(&self) {
        let mut out = io::stdout().lock();
        let text = self.text(out.is_terminal());
        // Nobody has to read it.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn text(&self, is_terminal: bool) -> String {
        if self.is_json && !is_terminal {
            return String::new();
        }
        let mut text: String =
            self.urls.iter().map(|url| format!("listening on {url}\n")).collect();
        if let Some(address) = &self.admin {
            text += &format!("admin listener on {address}\n");
        }
        if let Some(url) = self.urls.first().filter(|_| is_terminal) {
            text += &format!(
                "\nTry it: in one shell\n\
                 \n    url=$(curl -fsX POST {url}/); echo $url; curl -fOJ $url\n\n\
                 and in another, with that URL,\n\
                 \n    curl --fail-with-body -F file=@FILE URL\n\n"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_is_told_what_to_try() {
        let mut greeting = Greeting {
            urls: vec!["http://127.0.0.1:1".to_owned(), "https://[::1]:2".to_owned()],
            admin: Address::parse("unix:/run/a.sock"),
            workers: 2,
            is_json: false,
        };
        let lines = "listening on http://127.0.0.1:1\nlistening on https://[::1]:2\n\
                     admin listener on unix:/run/a.sock\n";
        assert_eq!(greeting.text(false), lines);
        assert!(greeting.text(true).starts_with(lines));
        assert!(greeting.text(true).contains("curl -fsX POST http://127.0.0.1:1/"));
        greeting.is_json = true;
        assert_eq!(greeting.text(false), "");
        assert!(greeting.text(true).starts_with(lines));
    }
}
