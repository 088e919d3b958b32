//! How a connection begins, where it does not begin with a request: with a balancer's line, with a TLS handshake, or with
//! one after the other.
//!
//! Called by `Connection::drive`, and where a connection is made.

use super::{Connection, Next, State, Step};
use crate::address::{self, MalformedLine};
use crate::http::Status;
use crate::relay::{Relay, millis};
use crate::stream::Shaken;
use crate::tally::{Handshake, Tally};
use crate::tls::{Acceptor, Fault};
use crate::worker::answer::Answer;

impl Connection {
    pub(super) fn read_proxy_line(
        &mut self,
        relay: &Relay,
        acceptor: Option<&'static Acceptor>,
        now_ms: u64,
    ) -> Step {
        loop {
            match address::proxy_line(&self.inbox) {
                Ok(Some(line)) => {
                    self.consume(line.bytes);
                    self.peer = self.peer.named(line.source, &relay.config.trusted_proxies);
                    self.asked.client = self.peer.address;
                    self.state = State::Head;
                    if let Some(acceptor) = acceptor
                        && let Err(step) = self.encrypt(relay, acceptor, now_ms)
                    {
                        return step;
                    }
                    return self.count_named(relay, now_ms);
                }
                Ok(None) => {}
                Err(malformed) => return self.refuse_line(relay, malformed, now_ms),
            }
            if let Some(step) = self.read_more(relay, now_ms) {
                return step;
            }
        }
    }

    /// What follows the balancer's line is TLS, of which some may have been read.
    fn encrypt(&mut self, relay: &Relay, acceptor: &Acceptor, now_ms: u64) -> Result<(), Step> {
        let early = std::mem::take(&mut self.inbox);
        if let Err(fault) = self.stream.encrypt(acceptor, &early) {
            tracing::error!(%fault, "cannot begin a TLS session");
            return Err(Step::Stop(Next::Close));
        }
        self.begin_handshake(relay, now_ms);
        Ok(())
    }

    pub(super) fn begin_handshake(&mut self, relay: &Relay, now_ms: u64) {
        self.state = State::Handshake;
        let timeout = millis(relay.config.timeouts.handshake_timeout);
        self.deadline_ms = now_ms.saturating_add(timeout);
    }

    pub(super) fn shake_hands(&mut self, relay: &Relay, now_ms: u64) -> Step {
        let is_late = now_ms >= self.deadline_ms;
        let shaken = self.stream.shake();
        let end = match shaken {
            Shaken::NotYet if !is_late => return Step::Stop(Next::Wait),
            Shaken::NotYet => Handshake::TooLate,
            Shaken::Done if self.stream.is_resumed() => Handshake::Resumed,
            Shaken::Done => Handshake::Full,
            Shaken::Left => Handshake::Left,
            Shaken::Failed(_) => Handshake::Failed,
        };
        relay.count(Tally::Handshake(end));
        match shaken {
            Shaken::Done => {
                self.state = State::Head;
                let timeout = millis(relay.config.timeouts.head_timeout);
                self.deadline_ms = now_ms.saturating_add(timeout);
                Step::Go
            }
            Shaken::NotYet | Shaken::Left => Step::Stop(Next::Close),
            Shaken::Failed(Fault::PlainHttp { to_head }) => {
                self.stream.decrypt();
                self.asked.head_only = to_head;
                let text = "this port speaks HTTPS";
                let answer = Answer::error(Status::BadRequest, text, &self.asked);
                self.answer(relay, &answer, now_ms);
                Step::Go
            }
            Shaken::Failed(fault) => {
                tracing::debug!(peer = %self.peer.address, %fault, "no TLS session");
                Step::Stop(Next::Close)
            }
        }
    }

    /// The balancer has said for whom it speaks: the connection counts for that one, unless it is a
    /// proxy as well.
    fn count_named(&mut self, relay: &Relay, now_ms: u64) -> Step {
        if self.peer.is_proxy {
            return Step::Go;
        }
        match self.admission.count_for(relay, self.peer.address, now_ms) {
            Ok(()) => Step::Go,
            Err(why) => self.turn_away(relay, why, now_ms),
        }
    }

    fn refuse_line(&mut self, relay: &Relay, malformed: MalformedLine, now_ms: u64) -> Step {
        tracing::debug!(peer = %self.peer.address, "refused: {malformed}");
        let answer = Answer::error(Status::BadRequest, &malformed.to_string(), &self.asked);
        self.answer(relay, &answer, now_ms);
        Step::Go
    }
}
