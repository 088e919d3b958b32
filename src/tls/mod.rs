//! TLS without a socket: a listener's certificate, its tickets, and one client's TLS connection.
//!
//! `config` reads [`Credentials`]. The master makes an [`Acceptor`] of them before it forks, and changes the keys of
//! tickets by a [`Rotation`]. `crate::stream` drives a [`TlsConnection`] over a socket. TLS 1.2 and 1.3 are spoken,
//! with HTTP/1.1 (and 1.0) on top; no early data. Invariant: every byte that is given out was decrypted and
//! authenticated, and only an end that the client has announced is an end.

mod acceptor;
mod certificate;
mod connection;
mod credentials;
mod der;
mod key;
mod pem;
mod rotation;
mod tickets;
mod validity;

pub use acceptor::Acceptor;
pub use connection::{Plain, TlsConnection, TlsError};
pub use credentials::{Credentials, CredentialsError};
pub use rotation::Rotation;
pub use validity::Validity;
