//! The driver of the end-to-end tests: a real master with real workers, real curl, sockets that say exactly what they
//! sent and got, and an observer of the shared segment. Tests are meant to read like sentences; all that is not a
//! sentence lives here. The harness never sleeps for luck: it polls for a condition until a deadline and then says which.

mod access;
mod config;
mod curl;
mod cutter;
mod message;
mod metrics;
mod needs;
mod network;
mod patience;
mod payload;
mod proc;
mod proxy;
mod raw;
mod relay;
mod response;
mod segment;
mod strace;
mod terminal;
mod tls;
mod transfer;

pub(crate) use access::{AccessLog, Entry};
pub(crate) use curl::{Curl, RunningCurl};
pub(crate) use cutter::{By, Cut, Cutter, Of, TAKEN_BYTES_MAX};
pub(crate) use message::{Coming, MOUNT, MessageSession, Party, Role, TRUNCATED, TokenCookie};
pub(crate) use metrics::{ADMIN, Metrics};
pub(crate) use needs::{needs, needs_root};
pub(crate) use network::{FAR, Line, Machine, NEAR, Timer, tcp_timer};
pub(crate) use patience::{PATIENCE, eventually, eventually_within, stays};
pub(crate) use payload::Payload;
pub(crate) use proc::{Pid, Stopped, needs_root_to_look_in, tcp_queues, tcp_unread};
pub(crate) use proxy::{Front, Kind};
pub(crate) use raw::{Piece, Raw};
pub(crate) use relay::{BINARY, FIRM, Relay, Session, handed, shut_out};
pub(crate) use response::{Ending, Head, Response, expect_one_time};
pub(crate) use segment::{Counters, Segment};
pub(crate) use strace::{Fault, Strace, segment_addresses};
pub(crate) use terminal::Terminal;
pub(crate) use tls::{Certificate, over_tls, trusted_by_curl};
pub(crate) use transfer::{
    Checked, Placement, Reading, Shape, form_around, send_part, send_payload,
};
