//! Why the relay could not start, or could not continue. All of the master makes such errors; `cli` and the log tell
//! them.

use super::activation::ActivationError;
use crate::config::ConfigError;
use crate::sandbox::SandboxError;
use crate::session::IssueTokensError;
use crate::sys::operator::ListenAddress;
use crate::tls::CredentialsError;
use shm::CreateError;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the relay could not start, or could not continue.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The listener's address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The service manager's listeners cannot be used.
    #[error("cannot listen")]
    Activation(#[from] ActivationError),
    /// The admin listener cannot be opened.
    #[error("cannot open the admin listener {address}")]
    Admin {
        /// Where.
        address: ListenAddress,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot write to {} (log.access)", path.display())]
    Access {
        /// The log file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration, read again, is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration changes what only a restart can change.
    #[error("only a restart can change {keys} (\"auto\" counts as what it came to)")]
    Fixed {
        /// The keys, for people.
        keys: String,
    },
    /// There is no control socket.
    #[error("cannot listen on {} (control_socket)", path.display())]
    Control {
        /// Where it was to be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A listener's certificate or key cannot be used any more.
    #[error("cannot set up TLS")]
    Credentials(#[from] CredentialsError),
    /// The issue tokens cannot be used any more.
    #[error("cannot load the issue tokens (auth.issue_tokens)")]
    IssueTokens(#[from] IssueTokensError),
    /// A listener's certificate and key do not make a server.
    #[error("cannot set up TLS on {address}")]
    Tls {
        /// The listener's address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// There is not enough memory for the segment.
    #[error("cannot create the shared segment (memory.segment_bytes)")]
    Segment(#[source] CreateError),
    /// This process may not have so large a segment: trying it could end in a signal.
    #[error("a segment of {bytes} bytes (memory.segment_bytes) exceeds {what}: {most} bytes")]
    SegmentLimit {
        /// How large it was to be.
        bytes: u64,
        /// The limit that is lower.
        what: &'static str,
        /// The value of that limit.
        most: u64,
    },
    /// The previous program cannot be taken over from.
    #[error("cannot take over from the previous program")]
    TakeOver(#[source] Box<dyn Error + Send + Sync>),
    /// The kernel refuses to be refused.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The kernel refused something else.
    #[error("cannot {what}")]
    Os {
        /// The attempt that failed.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl MasterError {
    pub(super) fn os(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Os { what, source }
    }
}

/// An error and its causes, in one line if they are.
#[must_use]
pub fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text += &format!(": {source}");
        cause = source.source();
    }
    text
}
