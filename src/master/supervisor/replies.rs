//! Requests that the supervisor hears over the control socket, and its answers.

use super::super::decision::{Asker, Event, Outcome};
use super::super::explain;
use super::super::reopen_logs::{self, Reopened};
use super::{STOPPERS_MAX, Supervisor};
use crate::control::{self, ControlRequest, Line};
use crate::sys::clock;

impl Supervisor {
    pub(super) fn hear_requests(&mut self) {
        let Some(control) = &mut self.outside.control else { return };
        for (number, line) in control.requests(clock::monotonic_ms()) {
            let words = line.to_string();
            tracing::info!(request = words.as_str(), "received a control request");
            let asker = Some(number);
            let request = match line {
                Line::Program(request) => request,
                Line::End(session) => {
                    let answer = match self.workers.end_session(session) {
                        true => Ok(format!("ended session {session}")),
                        false => Err(format!("no living session is {session}")),
                    };
                    self.tell(number, &answer);
                    continue;
                }
            };
            self.decide(match request {
                ControlRequest::Reopen => {
                    let answer = self.reopen();
                    self.tell(number, &answer);
                    continue;
                }
                ControlRequest::Reload => Event::Reload(asker),
                ControlRequest::Upgrade => Event::Upgrade(asker),
                ControlRequest::Quit => Event::Stop { graceful: true, asker },
                ControlRequest::Stop => Event::Stop { graceful: false, asker },
            });
        }
    }

    /// The consequence of a failed reload, in words.
    pub(super) fn consequence(&self) -> &'static str {
        match self.old_workers {
            None => "nothing has changed",
            Some(_) => "the new program keeps the old workers",
        }
    }

    pub(super) fn answer(&mut self, asker: Asker, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Reloaded { generation, workers } => Ok(format!(
                "{}: generation {generation}, workers: {workers}, version {}",
                done(self.upgraded == Some(generation)),
                env!("CARGO_PKG_VERSION")
            )),
            Outcome::Stopping if self.stoppers.len() < STOPPERS_MAX => {
                self.stoppers.push(asker);
                return self.note(asker, "stopping");
            }
            Outcome::Stopping => Ok("stopping".to_owned()),
            Outcome::Failed(why) if self.old_workers.is_some() => {
                Err(format!("{}: {why}", self.consequence()))
            }
            Outcome::Failed(why) => Err(why),
        };
        self.tell(asker, &answer);
    }

    fn tell(&mut self, asker: Asker, answer: &control::Reply) {
        if let Some(control) = &mut self.outside.control {
            control.answer(asker, answer);
        }
    }

    fn note(&mut self, asker: Asker, text: &str) {
        if let Some(control) = &mut self.outside.control {
            control.note(asker, text);
        }
    }

    /// Reopens the access logs.
    pub(super) fn reopen(&self) -> control::Reply {
        let (decider, workers) = (&self.decider, &self.workers);
        let reopened = reopen_logs::reopen(&self.generations, &self.current, decider, workers);
        match reopened {
            Ok(Reopened { logs, workers, untold: 0 }) => {
                tracing::info!(logs, workers, "reopened the access logs");
                Ok(format!("reopened: access logs: {logs}, workers: {workers}"))
            }
            Ok(Reopened { untold, .. }) => {
                Err(format!("workers that still write to the old access log: {untold}"))
            }
            Err(error) => {
                let why = explain(&error);
                tracing::error!("cannot reopen the access logs: {why}");
                Err(why)
            }
        }
    }

    pub(super) fn put_off(&mut self, asker: Option<Asker>) {
        const WHY: &str = "the reload waits for an earlier reload, or for workers to drain";
        tracing::info!("{WHY}");
        if let Some(asker) = asker {
            self.note(asker, &format!("queued: {WHY}"));
        }
    }
}

/// The word for a generation that has taken over.
pub(super) fn done(is_upgrade: bool) -> &'static str {
    if is_upgrade { "upgraded" } else { "reloaded" }
}
