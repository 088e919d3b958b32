//! TLS without a socket: what a listener's certificate is, which tickets it hands out, and one client's session.
//!
//! `config` reads [`Credentials`], the master makes an [`Acceptor`] of them before it forks and turns the keys of tickets
//! by a [`Rotation`], and
//! `crate::stream` drives a [`Session`] over a socket. TLS 1.2 and 1.3 are spoken, HTTP/1.1 (and 1.0) on top; no early
//! data. What must always hold: no byte is given out that was not decrypted and authenticated, and the end of a
//! connection is an end only where the client has said so.

mod acceptor;
mod certificate;
mod credentials;
mod der;
mod key;
mod pem;
mod rotation;
mod session;
mod tickets;
mod validity;

pub use acceptor::Acceptor;
pub use credentials::{Credentials, CredentialsError};
pub use rotation::Rotation;
pub use session::{Fault, Plain, Session};
pub use validity::Validity;
