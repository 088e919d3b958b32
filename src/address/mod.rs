//! Whose address a request comes from: which proxies are trusted, and what they say of their clients.
//!
//! Pure: no socket, no clock. The configuration reads [`Networks`]; the worker asks the rest, and only
//! for what comes from a trusted proxy. What must always hold: of what anybody else wrote into a
//! header field nothing is believed, and an IPv4-mapped IPv6 address is the IPv4 address it means.
#![deny(clippy::indexing_slicing)]

mod forwarded;
mod networks;
mod proxy_line;

pub use forwarded::{Scheme, client, last_element};
pub use networks::{Network, Networks};
pub use proxy_line::{LINE_BYTES_MAX, MalformedLine, ProxyLine, proxy_line};
