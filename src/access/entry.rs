//! The access log's knowledge of a request until the request is over: [`super::AccessLog::entry`] makes it, the
//! connection fills it in.
//!
//! Every waiting client holds one, so it is small: it keeps the client's words as they will be written, except for
//! the escapes, and only as many as a line has room for.

use crate::api::ApiName;
use crate::session::SessionHash;
use shm::Role;

/// Room for each field in a line, escapes counted. The entry keeps no more than that.
pub(super) const REQUEST_BYTES_MAX: usize = 1536;
pub(super) const REFERER_BYTES_MAX: usize = 256;
pub(super) const USER_AGENT_BYTES_MAX: usize = 768;

/// The status of a request whose client left before any answer, as in nginx.
const CLIENT_LEFT: u16 = 499;

/// A request, as the access log will write it.
#[derive(Debug, Default)]
pub struct LogEntry {
    /// Request line, `Referer` and `User-Agent`, one behind the other; empty for none.
    words: Vec<u8>,
    request_bytes: usize,
    referer_bytes: usize,
    pub(super) api: Option<ApiName>,
    pub(super) session: Option<SessionHash>,
    began_ms: u64,
    pub(super) role: Option<&'static str>,
    begun_ms: Option<u64>,
    pub(super) end: Option<&'static str>,
    pub(super) payload_bytes: Option<u64>,
    /// Where in its file that began.
    pub(super) offset: u64,
    /// Bytes of payload that were read and dropped.
    pub(super) skipped_bytes: u64,
    /// 0 as long as nothing was answered.
    pub(super) status: u16,
    pub(super) body_bytes: u64,
}

impl LogEntry {
    /// Starts a new entry, and returns the room for its words.
    pub(super) fn begin(
        &mut self,
        api: Option<ApiName>,
        session: Option<SessionHash>,
        now_ms: u64,
    ) -> &mut Self {
        let mut words = std::mem::take(&mut self.words);
        words.clear();
        *self = Self { words, api, session, began_ms: now_ms, ..Self::default() };
        self
    }

    /// The request asks for a place.
    pub fn asks_for(&mut self, role: Role) {
        self.takes_part_as(match role {
            Role::Sender => "sender",
            Role::Receiver => "receiver",
        });
    }

    /// The client is a party of a pair, which sends and receives.
    pub fn asks_for_both(&mut self) {
        self.takes_part_as("both");
    }

    fn takes_part_as(&mut self, role: &'static str) {
        self.role = Some(role);
        // A waiting client holds no more than it must.
        self.words.shrink_to_fit();
    }

    /// The transfer has begun, at the latest now.
    pub fn begun(&mut self, now_ms: u64) {
        self.begun_ms.get_or_insert(now_ms);
    }

    /// How a request that held a place ended, and with how many bytes of payload.
    pub fn ended(&mut self, label: &'static str, payload_bytes: Option<u64>) {
        (self.end, self.payload_bytes) = (Some(label), payload_bytes);
    }

    /// The payload begins at byte `offset` of the file, and the sender's side read and dropped that many bytes before
    /// it.
    pub fn resumes(&mut self, offset: u64, skipped_bytes: u64) {
        (self.offset, self.skipped_bytes) = (offset, skipped_bytes);
    }

    /// An answer was begun, with a body of so many bytes.
    pub fn answered(&mut self, status: u16, body_bytes: u64) {
        (self.status, self.body_bytes) = (status, body_bytes);
    }

    /// So many bytes of the body were not sent.
    pub fn falls_short(&mut self, bytes: u64) {
        self.body_bytes = self.body_bytes.saturating_sub(bytes);
    }

    /// The connection ended, and the relay did not end it.
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

    /// Milliseconds until the transfer began, and from then on, for a request with a role.
    pub(super) fn times_ms(&self, now_ms: u64) -> (Option<u64>, Option<u64>) {
        let waited_ms = self.begun_ms.unwrap_or(now_ms).saturating_sub(self.began_ms);
        let wait_ms = self.role.is_some().then_some(waited_ms);
        (wait_ms, self.begun_ms.map(|begun_ms| now_ms.saturating_sub(begun_ms)))
    }
}

/// Stores the words of an entry, in their order.
pub(super) struct Words<'n>(&'n mut LogEntry);

impl<'n> Words<'n> {
    pub(super) fn new(entry: &'n mut LogEntry) -> Self {
        Self(entry)
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
