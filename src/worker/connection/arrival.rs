//! The beginning of a connection that does not begin with a request: a proxy's line, a TLS handshake, or one after the
//! other.
//!
//! `Connection::drive` calls this, and `Connection::new`.

use super::{CLOSE, Connection, FIRST_HEAD, NEXT, State, Step, WAIT};
use crate::address::{self, MalformedLine};
use crate::api::RequestInfo;
use crate::http::Status;
use crate::relay::Cx;
use crate::stream::HandshakeState;
use crate::tally::{Handshake, Tally};
use crate::tls::{Acceptor, TlsError};

impl Connection {
    pub(super) fn read_proxy_line(
        &mut self,
        cx: Cx<'_>,
        acceptor: Option<&'static Acceptor>,
    ) -> Step {
        loop {
            match address::proxy_line(&self.inbox) {
                Ok(Some(line)) => {
                    self.consume(line.bytes);
                    self.remote = self.remote.named(line.source, &cx.env.config.trusted_proxies);
                    self.client = self.remote.address;
                    self.state = FIRST_HEAD;
                    if let Some(acceptor) = acceptor
                        && let Err(step) = self.encrypt(cx, acceptor)
                    {
                        return step;
                    }
                    self.count_named(cx);
                    return NEXT;
                }
                Ok(None) => {}
                Err(malformed) => {
                    self.refuse_line(cx, malformed);
                    return NEXT;
                }
            }
            if let Err(step) = self.read_more(cx) {
                return step;
            }
        }
    }

    /// Begins TLS after the proxy's line. Some of its bytes may have been read already.
    fn encrypt(&mut self, cx: Cx<'_>, acceptor: &Acceptor) -> Result<(), Step> {
        let early = std::mem::take(&mut self.inbox);
        if let Err(fault) = self.stream.encrypt(acceptor, &early) {
            tracing::error!(%fault, "cannot begin a TLS session");
            return Err(CLOSE);
        }
        self.begin_handshake(cx);
        Ok(())
    }

    pub(super) fn begin_handshake(&mut self, cx: Cx<'_>) {
        self.state = State::Handshake;
        self.deadline_ms = cx.after(cx.env.config.timeouts.handshake_timeout);
    }

    pub(super) fn handshake(&mut self, cx: Cx<'_>) -> Step {
        let is_late = cx.now_ms >= self.deadline_ms;
        let state = self.stream.handshake();
        let end = match state {
            HandshakeState::NotYet if !is_late => return WAIT,
            HandshakeState::NotYet => Handshake::TooLate,
            HandshakeState::Done if self.stream.is_resumed() => Handshake::Resumed,
            HandshakeState::Done => Handshake::Full,
            HandshakeState::Left => Handshake::Left,
            HandshakeState::Failed(_) => Handshake::Failed,
        };
        cx.env.count(Tally::Handshake(end));
        match state {
            HandshakeState::Done => {
                self.state = FIRST_HEAD;
                self.deadline_ms = cx.after(cx.env.config.timeouts.head_timeout);
                NEXT
            }
            HandshakeState::NotYet | HandshakeState::Left => CLOSE,
            HandshakeState::Failed(TlsError::PlainHttp { to_head }) => {
                self.stream.decrypt();
                let info = RequestInfo { head_only: to_head, ..self.no_request(cx.env) };
                self.refuse(cx, info, Status::BadRequest, "this port speaks HTTPS");
                NEXT
            }
            HandshakeState::Failed(fault) => {
                tracing::debug!(remote = %self.remote.address, %fault, "TLS handshake failed");
                CLOSE
            }
        }
    }

    /// Counts the connection for the client that the proxy has named, unless that is a proxy as well.
    fn count_named(&mut self, cx: Cx<'_>) {
        if self.remote.is_proxy {
            return;
        }
        if let Err(why) = self.admission.count_for(cx, self.remote.address) {
            self.turn_away_early(cx, why);
        }
    }

    fn refuse_line(&mut self, cx: Cx<'_>, malformed: MalformedLine) {
        tracing::debug!(remote = %self.remote.address, "refused: {malformed}");
        let info = self.no_request(cx.env);
        self.refuse(cx, info, Status::BadRequest, &malformed.to_string());
    }

    /// Refuses a client that is no trusted proxy: the listener expects a proxy's line first.
    pub(super) fn refuse_direct(&mut self, cx: Cx<'_>) {
        tracing::debug!(
            remote = %self.remote.address, "refused: PROXY protocol is for trusted_proxies"
        );
        let info = self.no_request(cx.env);
        self.refuse(cx, info, Status::BadRequest, "only trusted proxies may connect here");
    }
}
