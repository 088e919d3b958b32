//! Requests and answers, whatever they are about: framing, heads, refusals, browsers, and proxies in between.

mod address;
mod answers;
mod cors;
mod expectation;
mod framing;
mod heads;
mod previews;
mod proxies;
