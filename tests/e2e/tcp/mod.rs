//! TCP below the requests: keep-alive, urgent bytes, Fast Open.

mod fast_open;
mod keepalive;
mod urgent;
