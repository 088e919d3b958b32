//! What is kept of a request until it is over: made by [`super::AccessLog::note`], filled in by the connection.
//!
//! Whoever waits holds one, so it is small: what the client said is kept as it will be written, but for the escapes,
//! and within the room that it has in a line.

use crate::session::SessionHash;
use crate::tally::Api;
use shm::Role;

/// Room for each in a line, escapes counted, and so the most that is kept of it.
pub(super) const REQUEST_BYTES_MAX: usize = 1536;
pub(super) const REFERER_BYTES_MAX: usize = 256;
pub(super) const USER_AGENT_BYTES_MAX: usize = 768;

/// Said to nobody: the client had left. nginx has it so.
const CLIENT_LEFT: u16 = 499;

/// One request.
#[derive(Debug, Default)]
pub struct Note {
    /// Request line, `Referer` and `User-Agent`, one behind the other; empty for none.
    words: Vec<u8>,
    request_bytes: usize,
    referer_bytes: usize,
    pub(super) api: Option<Api>,
    pub(super) session: Option<SessionHash>,
    began_ms: u64,
    pub(super) role: Option<Role>,
    met_ms: Option<u64>,
    pub(super) end: Option<&'static str>,
    pub(super) payload_bytes: Option<u64>,
    /// 0 as long as nothing was answered.
    pub(super) status: u16,
    pub(super) body_bytes: u64,
}

impl Note {
    /// Begins anew; returns what the words are to be put into.
    pub(super) fn begin(
        &mut self,
        api: Option<Api>,
        session: Option<SessionHash>,
        now_ms: u64,
    ) -> &mut Self {
        let mut words = std::mem::take(&mut self.words);
        words.clear();
        *self = Self { words, api, session, began_ms: now_ms, ..Self::default() };
        self
    }

    /// It asks for a place.
    pub fn asks_for(&mut self, role: Role) {
        self.role = Some(role);
        // Whoever waits holds no more than it must.
        self.words.shrink_to_fit();
    }

    /// Its transfer has begun, at the latest now.
    pub fn met(&mut self, now_ms: u64) {
        self.met_ms.get_or_insert(now_ms);
    }

    /// How it ended for one that had a place, and how many bytes of payload that were.
    pub fn ended(&mut self, label: &'static str, payload_bytes: Option<u64>) {
        (self.end, self.payload_bytes) = (Some(label), payload_bytes);
    }

    /// An answer was begun, with a body of so many bytes.
    pub fn answered(&mut self, status: u16, body_bytes: u64) {
        (self.status, self.body_bytes) = (status, body_bytes);
    }

    /// So many bytes of the body were not sent.
    pub fn falls_short(&mut self, bytes: u64) {
        self.body_bytes = self.body_bytes.saturating_sub(bytes);
    }

    /// The connection ended, and we did not end it.
    pub fn client_left(&mut self) {
        if self.status == 0 {
            self.status = CLIENT_LEFT;
        }
    }

    /// The request line, `Referer` and `User-Agent`.
    pub(super) fn words(&self) -> [&[u8]; 3] {
        let (request, rest) =
            self.words.split_at_checked(self.request_bytes).unwrap_or((&self.words, &[]));
        let (referer, user_agent) =
            rest.split_at_checked(self.referer_bytes).unwrap_or((rest, &[]));
        [request, referer, user_agent]
    }

    /// Milliseconds until its transfer began, and from then on; of one that has a role.
    pub(super) fn times_ms(&self, now_ms: u64) -> (Option<u64>, Option<u64>) {
        let waited_ms = self.met_ms.unwrap_or(now_ms).saturating_sub(self.began_ms);
        let wait_ms = self.role.is_some().then_some(waited_ms);
        (wait_ms, self.met_ms.map(|met_ms| now_ms.saturating_sub(met_ms)))
    }
}

/// Puts a note's words down, in their order.
pub(super) struct Words<'n>(&'n mut Note);

impl<'n> Words<'n> {
    pub(super) fn new(note: &'n mut Note) -> Self {
        Self(note)
    }

    pub(super) fn request(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.0.request_bytes = self.add(REQUEST_BYTES_MAX, write);
    }

    pub(super) fn referer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.0.referer_bytes = self.add(REFERER_BYTES_MAX, write);
    }

    pub(super) fn user_agent(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.add(USER_AGENT_BYTES_MAX, write);
    }

    fn add(&mut self, bytes_max: usize, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let begin = self.0.words.len();
        write(&mut self.0.words);
        self.0.words.truncate(begin.saturating_add(bytes_max));
        self.0.words.len().saturating_sub(begin)
    }
}
