//! HTTP/1.1 as bytes: heads, bodies and answers, with no socket and no clock.
//!
//! The worker hands in what it has read and writes out what it gets back. Time comes in as an
//! argument. Invariant: `framing` refuses a message that two readers could understand differently, no
//! input makes the code panic, and the caller names a limit for every buffer.

mod chunk_line;
mod chunked;
mod cookie;
mod cors;
mod fault;
mod filename;
mod framing;
mod grammar;
mod head;
mod host;
mod media;
mod naming;
pub(crate) mod params;
mod range;
mod request;
mod response;
mod status;

pub use chunk_line::{ChunkLine, chunk_line};
pub use chunked::{Dechunker, Decoded};
pub use cookie::{bearer, cookies, expired_token_cookie, token_cookie};
pub use cors::{Cors, Origins, is_origin, origin_in};
pub use fault::Fault;
pub(crate) use filename::names_a_file;
pub use filename::{Attachment, FILE_NAME_BYTES_MAX, FileName, is_invisible};
pub(crate) use grammar::is_token_byte;
pub use head::{FieldRoom, HeadLimits, Parsed, begins_head_request, parse};
pub use host::host;
pub use media::{ENCODING_BYTES_MAX, is_encoding, is_media_type};
pub use range::{ByteRange, Tail, byte_range, content_range, upload_offset};
pub use request::{Framing, HEADER_FIELDS_CEILING, Method, Request, Version};
pub use response::{CONTINUE, ResponseHead, accepts, error_body, http_date_after, iso_date_after};
pub use status::Status;
