//! The address that a request comes from: the proxies that are trusted, and what they say of their
//! clients.
//!
//! The configuration reads [`Networks`]. The worker asks the rest, and only about what comes from a
//! trusted proxy. Invariant: the relay believes no header field that another client wrote, and treats
//! an IPv4-mapped IPv6 address as the IPv4 address that it means.

mod forwarded;
mod networks;
mod proxy_line;

pub use forwarded::{Scheme, client, last_element};
pub use networks::{Network, Networks};
pub use proxy_line::{LINE_BYTES_MAX, MalformedLine, ProxyLine, proxy_line};
