//! All offences, room by room. `scripts/tidy` prints it, and the test compares it with the ceilings.

use std::collections::BTreeMap;

use crate::ceilings::Counts;
use crate::prose::Prose;
use crate::{Offence, directions, phrases, shape, sources, words};

/// The offences of one room.
#[derive(Debug, Default)]
pub struct Room {
    /// Files that use each other in a circle.
    pub circles: Vec<Offence>,
    /// Files that are too long.
    pub long_files: Vec<Offence>,
    /// Lines that are too wide.
    pub wide_lines: Vec<Offence>,
    /// Retired words, and refused phrases.
    pub retired_words: Vec<Offence>,
    /// Sentences of comments.
    pub prose: Prose,
}

impl Room {
    /// How much of each there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            circles: self.circles.len(),
            long_files: self.long_files.len(),
            wide_lines: self.wide_lines.len(),
            retired_words: self.retired_words.len(),
            subjectless_percent: self.prose.percent(),
        }
    }

    /// All offences, in the order of [`Counts::named`].
    #[must_use]
    pub fn offences(&self) -> [&[Offence]; 5] {
        [
            &self.circles,
            &self.long_files,
            &self.wide_lines,
            &self.retired_words,
            &self.prose.subjectless,
        ]
    }
}

/// The repository, by room.
#[must_use]
pub fn rooms() -> BTreeMap<String, Room> {
    let mut rooms: BTreeMap<String, Room> = BTreeMap::new();
    let rust = sources::rust();
    for circle in directions::circles(&rust) {
        rooms.entry(sources::room(&circle.path)).or_default().circles.push(circle);
    }
    for source in &rust {
        let room = rooms.entry(source.room.clone()).or_default();
        room.long_files.extend(shape::too_long(source));
        room.wide_lines.extend(shape::too_wide(source));
        room.prose.add(Prose::of(source));
        room.retired_words.extend(phrases::used(source));
    }
    let retired = words::retired(&sources::document("docs/glossary.md"));
    for source in sources::worded().iter().filter(|it| !it.path.ends_with("glossary.md")) {
        let room = rooms.entry(source.room.clone()).or_default();
        room.retired_words.extend(words::used(source, &retired));
        if !source.is_rust() {
            room.retired_words.extend(phrases::used(source));
        }
    }
    rooms
}
