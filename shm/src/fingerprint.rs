//! A number that tells layouts apart: it covers every field of every struct in a segment, and where the parts lie.
//!
//! A program compares it with that of a segment that another program made. The tests hold the pair of format number and
//! fields, and compare `docs/internals/shared-memory.md` with the code.

use crate::fields::Struct;
use crate::header::HEADER;
use crate::lane::{Lane, ReceiverLine, SenderLine};
use crate::record::WorkerRecord;
use crate::resume::{PassedWords, WantWords};
use crate::slot::Slot;

/// Every struct that lies in a segment.
const STRUCTS: [Struct; 8] = [
    HEADER,
    WorkerRecord::FIELDS,
    Slot::FIELDS,
    Lane::FIELDS,
    SenderLine::FIELDS,
    ReceiverLine::FIELDS,
    WantWords::FIELDS,
    PassedWords::FIELDS,
];

/// A digest of every field's name, offset and length. The name counts, so that two fields of one length cannot change
/// places unseen.
fn fields_digest() -> u64 {
    let name = |hash, name: &str| name.bytes().fold(hash, |hash, byte| mix(hash, u64::from(byte)));
    STRUCTS.iter().fold(0xcbf2_9ce4_8422_2325, |hash, it| {
        let hash = mix(name(hash, it.name), it.bytes as u64);
        it.fields.iter().fold(hash, |hash, field| {
            mix(mix(name(hash, field.name), field.offset as u64), field.bytes as u64)
        })
    })
}

/// Mixes in one word as FNV-1a does: fingerprints have to differ, and need not resist an attacker.
fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
}

/// The fingerprint of a layout whose parts lie at `parts`.
pub(crate) fn of(parts: &[usize]) -> u64 {
    parts.iter().fold(fields_digest(), |hash, part| mix(hash, *part as u64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::fields::Field;
    use crate::header::{HEADER_BYTES, MAGIC};
    use crate::layout::{Geometry, Wanted};

    /// The layout that belongs to the format number in [`MAGIC`].
    const GOLDEN: (u64, u64) = (0x6944_6f6e_7453_740a, 0x9060_d3b3_06b7_0be5);

    #[test]
    fn a_changed_layout_has_a_new_format_number() {
        let found = (MAGIC, fields_digest());
        if found == GOLDEN {
            return;
        }
        assert!(
            found.0 != GOLDEN.0,
            "A field of a struct in shared memory has moved, changed its length or its name. A program that is upgraded \
             would misread the segment of the one before it. Count up the format number in MAGIC (shm/src/header.rs); \
             the digest of the fields is {:#018x}.",
            found.1
        );
        panic!(
            "The format number is new. Put ({:#018x}, {:#018x}) into GOLDEN here, and the new offsets into \
             docs/internals/shared-memory.md.",
            found.0, found.1
        );
    }

    #[test]
    fn fields_lie_within_their_struct_and_apart() {
        for it in STRUCTS {
            let mut end = 0;
            for field in it.fields {
                assert!(field.offset >= end, "{}: {} overlaps", it.name, field.name);
                end = field.offset + field.bytes;
            }
            assert!(end <= it.bytes, "{}", it.name);
        }
    }

    const DOCUMENT: &str = include_str!("../../docs/internals/shared-memory.md");

    /// The rows of the table below the heading of a struct, as lists of cells.
    fn documented(name: &str) -> Vec<Vec<&'static str>> {
        let (_, below) = DOCUMENT.split_once(&format!("\n### {name}\n")).unwrap_or_else(|| {
            panic!("docs/internals/shared-memory.md has no heading `### {name}`")
        });
        let table = below.lines().skip_while(|line| !line.starts_with('|'));
        let rows = table.take_while(|line| line.starts_with('|')).skip(2);
        rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
    }

    #[test]
    fn the_document_shows_every_field_where_it_is() {
        for it in STRUCTS {
            let rows = documented(it.name);
            let shown: Vec<_> = rows.iter().map(|row| row[..3].join(" ")).collect();
            let field =
                |field: &Field| format!("{} {} `{}`", field.offset, field.bytes, field.name);
            let expected: Vec<_> = it.fields.iter().map(field).collect();
            assert_eq!(shown, expected, "offset, bytes, field of {}", it.name);
            let bytes = format!("{} bytes", it.bytes);
            let (_, below) = DOCUMENT.split_once(&format!("\n### {}\n", it.name)).unwrap();
            assert!(below.trim_start().starts_with(&bytes), "{} has {bytes}", it.name);
            for row in rows {
                assert!(row.len() == 5 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
            }
        }
    }

    #[test]
    fn the_document_shows_the_parts_in_their_order() {
        let layout = Geometry::fit(
            8 << 20,
            Wanted {
                sessions: None,
                connections: 64,
                chunk_bytes: 64 << 10,
                lane_chunks: 8,
                pipes: 4,
            },
        )
        .unwrap()
        .layout()
        .unwrap();
        let parts = [
            ("header", 0..HEADER_BYTES),
            ("records", layout.records),
            ("bells", layout.bells),
            ("holdings", layout.holdings),
            ("slots", layout.slots),
            ("directory", layout.directory),
            ("permits", layout.permits),
            ("guesses", layout.guesses),
            ("bandwidth", layout.bandwidth),
            ("tags", layout.tags),
            ("chunks", layout.chunks),
        ];
        assert!(parts.is_sorted_by(|(_, one), (_, next)| one.end <= next.start));
        let shown: Vec<_> = documented("Parts").iter().map(|row| row[0]).collect();
        assert_eq!(shown, parts.map(|(name, _)| name));
    }
}
