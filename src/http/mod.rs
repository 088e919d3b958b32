//! HTTP/1.1 as bytes: heads, bodies and answers, with no socket and no clock.
//!
//! The worker hands in what it has read and writes out what it is given; time comes in as an
//! argument. What must always hold: a message that two readers could understand differently is
//! refused (`framing`), nothing a stranger sends can make the code here panic, and every buffer is
//! bounded by a limit the caller names.
#![deny(clippy::indexing_slicing)]

mod chunk_line;
mod chunked;
mod cookie;
mod cors;
mod fault;
mod filename;
mod framing;
mod head;
mod media;
pub(crate) mod params;
mod range;
mod response;
mod status;

pub use chunk_line::{ChunkLine, chunk_line};
pub use chunked::{Dechunker, Decoded};
pub use cookie::{bearer, cookies, expired_token_cookie, token_cookie};
pub use cors::{Cors, Origins, is_origin, origin_in};
pub use fault::Fault;
pub(crate) use filename::names_a_file;
pub use filename::{Attachment, FILE_NAME_BYTES_MAX, FileName};
pub use framing::host;
pub(crate) use framing::is_token_byte;
pub use head::{
    FieldRoom, Framing, HEADER_FIELDS_CEILING, HeadLimits, Method, Parsed, Request, Version,
    begins_head_request, parse,
};
pub use media::{ENCODING_BYTES_MAX, is_encoding, is_media_type};
pub use range::{asks_for_part, is_whole};
pub use response::{CONTINUE, ResponseHead, accepts, error_body, http_date_after, iso_date_after};
pub use status::Status;
