//! Every reason to refuse what a client sent, with its status and its line of text.
//!
//! The parsers here and in `multipart` return it, and the worker turns it into an answer. Both tables
//! below have one row per fault and no row for "anything else".

use std::fmt;

use super::Status;

/// Why a message was refused. The client is to blame for each of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    // The head as text.
    /// The head did not end within this many bytes.
    HeadTooLong {
        /// `head_bytes_max`, as configured.
        bytes_max: usize,
    },
    /// The request line alone fills the head's limit.
    TargetTooLong {
        /// `head_bytes_max`, as configured.
        bytes_max: usize,
    },
    /// More header fields than this.
    TooManyFields {
        /// `header_fields_max`, as configured.
        fields_max: usize,
    },
    /// Not `method SP target SP version CRLF`.
    BadRequestLine,
    /// A field line that is not `name: value`, or a control character in a value.
    BadHeader,
    /// A line feed without its carriage return.
    BareLf,
    /// A carriage return without its line feed.
    BareCr,
    /// A line that begins with white space: obsolete folding, or white space before the first field.
    ObsFold,
    /// White space between a field's name and its colon.
    SpaceBeforeColon,
    /// A NUL byte.
    Nul,
    /// Neither `HTTP/1.1` nor `HTTP/1.0`.
    VersionUnsupported,
    /// A target that is neither a path nor an `http(s)` URL, or that holds unprintable bytes.
    TargetMalformed,

    // The head as a description of the message.
    /// HTTP/1.1 without `Host`.
    HostMissing,
    /// More than one `Host`.
    HostDoubled,
    /// A `Host` that is no name or address with an optional port.
    HostMalformed,
    /// `Host` and the authority of an absolute target differ.
    HostConflict,
    /// `Content-Length` is not one plain decimal number.
    ContentLengthMalformed,
    /// More than one `Content-Length`, equal or not.
    ContentLengthDoubled,
    /// `Content-Length` does not fit 64 bits.
    ContentLengthOverflow,
    /// `Content-Length` together with `Transfer-Encoding`.
    LengthAndChunked,
    /// A transfer coding other than `chunked`, in front of it.
    TransferEncodingUnknown,
    /// A transfer coding that is not followed by `chunked`, or a list with an empty element: where the
    /// body ends is not known.
    ChunkedNotLast,
    /// More than one `Transfer-Encoding`, or `chunked` twice.
    TransferEncodingDoubled,
    /// `Transfer-Encoding` in HTTP/1.0, which does not know it.
    TransferEncodingInHttp10,
    /// A method longer than any that is known, or `CONNECT`, whose target is no path.
    MethodUnknown,
    /// A body is needed, and neither `Content-Length` nor `Transfer-Encoding` says how long it is.
    LengthMissing,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,

    // The body.
    /// A chunk line without a size.
    ChunkSizeEmpty,
    /// A chunk size that is not hexadecimal digits, or its line has no CRLF.
    ChunkSizeMalformed,
    /// A chunk size of more than 16 digits.
    ChunkSizeOverflow,
    /// A chunk line longer than this.
    ChunkLineTooLong {
        /// The limit the decoder was made with.
        bytes_max: u32,
    },
    /// A control character in a chunk extension.
    ChunkExtensionControl,
    /// A chunk extension that is not `;name`, `;name=value` or `;name="value"`.
    ChunkExtensionMalformed,
    /// Chunk extensions out of all proportion to the payload.
    ChunkExtensionExcess {
        /// Extension bytes allowed beyond the payload's share.
        bytes_max: u32,
    },
    /// No CRLF behind a chunk's payload.
    ChunkTerminator,
    /// The trailer section is longer than this.
    TrailerTooLong {
        /// The limit the decoder was made with.
        bytes_max: u32,
    },
    /// A trailer line that is not `name: value CRLF`.
    TrailerMalformed,
    /// The body is larger than allowed.
    BodyTooLarge {
        /// The largest body allowed.
        bytes_max: u64,
    },

    // The form.
    /// `multipart/form-data` without a boundary.
    BoundaryMissing,
    /// A boundary that is empty, too long, given twice or not printable.
    BoundaryMalformed,
    /// A delimiter line with something behind the boundary.
    DelimiterMalformed,
    /// A part's header that is not lines of `name: value CRLF`.
    PartHeadMalformed,
    /// All of the form that is not the file is longer than this.
    FormOverhead {
        /// `form_overhead_bytes_max`, as configured.
        bytes_max: u64,
    },
    /// The form ended without a part that has a file name.
    NoFilePart,
    /// A second part has a file name.
    SecondFile,
    /// The body ended before the form did.
    FormTruncated,
}

impl Fault {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::HeadTooLong { .. } | Self::TooManyFields { .. } => Status::HeaderFieldsTooLarge,
            Self::TargetTooLong { .. } => Status::UriTooLong,
            Self::VersionUnsupported => Status::VersionNotSupported,
            Self::TransferEncodingUnknown | Self::MethodUnknown => Status::NotImplemented,
            Self::LengthMissing => Status::LengthRequired,
            Self::ExpectationFailed => Status::ExpectationFailed,
            Self::BodyTooLarge { .. } | Self::FormOverhead { .. } => Status::ContentTooLarge,
            Self::BadRequestLine
            | Self::BadHeader
            | Self::BareLf
            | Self::BareCr
            | Self::ObsFold
            | Self::SpaceBeforeColon
            | Self::Nul
            | Self::TargetMalformed
            | Self::HostMissing
            | Self::HostDoubled
            | Self::HostMalformed
            | Self::HostConflict
            | Self::ContentLengthMalformed
            | Self::ContentLengthDoubled
            | Self::ContentLengthOverflow
            | Self::LengthAndChunked
            | Self::ChunkedNotLast
            | Self::TransferEncodingDoubled
            | Self::TransferEncodingInHttp10
            | Self::ChunkSizeEmpty
            | Self::ChunkSizeMalformed
            | Self::ChunkSizeOverflow
            | Self::ChunkLineTooLong { .. }
            | Self::ChunkExtensionControl
            | Self::ChunkExtensionMalformed
            | Self::ChunkExtensionExcess { .. }
            | Self::ChunkTerminator
            | Self::TrailerTooLong { .. }
            | Self::TrailerMalformed
            | Self::BoundaryMissing
            | Self::BoundaryMalformed
            | Self::DelimiterMalformed
            | Self::PartHeadMalformed
            | Self::NoFilePart
            | Self::SecondFile
            | Self::FormTruncated => Status::BadRequest,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match *self {
            Self::HeadTooLong { bytes_max } => {
                return write!(f, "the request head is longer than {bytes_max} bytes");
            }
            Self::TargetTooLong { bytes_max } => {
                return write!(f, "the request line is longer than {bytes_max} bytes");
            }
            Self::TooManyFields { fields_max } => {
                return write!(f, "more than {fields_max} header fields");
            }
            Self::ChunkLineTooLong { bytes_max } => {
                return write!(f, "a chunk line is longer than {bytes_max} bytes");
            }
            Self::ChunkExtensionExcess { bytes_max } => {
                return write!(f, "chunk extensions exceed the payload by {bytes_max} bytes");
            }
            Self::TrailerTooLong { bytes_max } => {
                return write!(f, "the trailers are longer than {bytes_max} bytes");
            }
            Self::BodyTooLarge { bytes_max } => {
                return write!(f, "the body is larger than {bytes_max} bytes");
            }
            Self::FormOverhead { bytes_max } => {
                return write!(f, "the form holds more than {bytes_max} bytes beside the file");
            }
            Self::BadRequestLine => "malformed request line",
            Self::BadHeader => "malformed header field",
            Self::BareLf => "a line feed without a carriage return",
            Self::BareCr => "a carriage return without a line feed",
            Self::ObsFold => "a header line begins with white space",
            Self::SpaceBeforeColon => "white space before the colon of a header field",
            Self::Nul => "a NUL byte in the request head",
            Self::VersionUnsupported => "only HTTP/1.1 and HTTP/1.0 are spoken here",
            Self::TargetMalformed => "malformed request target",
            Self::HostMissing => "no Host header field",
            Self::HostDoubled => "more than one Host header field",
            Self::HostMalformed => "malformed Host header field",
            Self::HostConflict => "Host differs from the request target",
            Self::ContentLengthMalformed => "Content-Length is not one decimal number",
            Self::ContentLengthDoubled => "more than one Content-Length",
            Self::ContentLengthOverflow => "Content-Length does not fit 64 bits",
            Self::LengthAndChunked => "both Content-Length and Transfer-Encoding",
            Self::TransferEncodingUnknown => "a transfer coding other than chunked",
            Self::ChunkedNotLast => "the last transfer coding is not chunked",
            Self::MethodUnknown => "a method that is not known here",
            Self::LengthMissing => {
                "a body of stated length is needed: Content-Length, or Transfer-Encoding: chunked"
            }
            Self::TransferEncodingDoubled => "more than one Transfer-Encoding",
            Self::TransferEncodingInHttp10 => "Transfer-Encoding in HTTP/1.0",
            Self::ExpectationFailed => "an expectation other than 100-continue",
            Self::ChunkSizeEmpty => "a chunk without a size",
            Self::ChunkSizeMalformed => "malformed chunk size",
            Self::ChunkSizeOverflow => "a chunk size of more than 16 digits",
            Self::ChunkExtensionControl => "a control character in a chunk extension",
            Self::ChunkExtensionMalformed => "malformed chunk extension",
            Self::ChunkTerminator => "no line end behind a chunk",
            Self::TrailerMalformed => "malformed trailer",
            Self::BoundaryMissing => "multipart/form-data without a boundary",
            Self::BoundaryMalformed => "malformed multipart boundary",
            Self::DelimiterMalformed => "malformed delimiter line in the form",
            Self::PartHeadMalformed => "malformed part header in the form",
            Self::NoFilePart => "the form holds no file",
            Self::SecondFile => "the form holds a second file, and one is relayed at a time",
            Self::FormTruncated => "the body ended before the form did",
        };
        f.write_str(line)
    }
}

impl std::error::Error for Fault {}
