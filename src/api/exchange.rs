//! The exchange: one file or stream in two steps. A complete file ends its session. An answer that is not whole is
//! cut.
//!
//! Called by `Api`, whose other variant is `messages`.

use super::{Announcement, Answer, OfferedFile};
use crate::http::{Attachment, ResponseHead, Status};
use crate::outcome::Report;

/// Writes what the head of a relayed answer says of the file.
pub(super) fn write_fields(head: &mut ResponseHead<'_>, status: Status, announced: &Announcement) {
    head.field("Content-Disposition", Attachment(announced.name.as_ref()));
    let Some(OfferedFile { total, tag }) = announced.whole() else { return };
    head.field("Accept-Ranges", "bytes").field("ETag", tag);
    if status == Status::PartialContent {
        let from = announced.file.map_or(0, |file| file.from);
        let last = total.saturating_sub(1);
        head.field("Content-Range", format_args!("bytes {from}-{last}/{total}"));
    }
}

/// The sender's answer for a file that was delivered.
pub(super) fn delivered(report: &Report) -> Answer {
    let bytes = report.delivered.unwrap_or(0);
    Answer::text(Status::Ok, format!("delivered {bytes} bytes\n")).with_count(report)
}
