//! The role of a client in the messages API. The routes find it, and every answer of that API names it.

/// The role of a client in a session of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageRole {
    /// The client's request brought the session's token.
    Host,
    /// The client's request brought no token, or another one.
    Guest,
}

impl MessageRole {
    /// The field of every answer that names the role. A host that has lost its token learns it here, and not by
    /// waiting for its own messages.
    pub const FIELD: &'static str = "X-Role";

    /// The value of the field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
        }
    }
}
