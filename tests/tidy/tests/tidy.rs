//! The rules of how this repository is written. `scripts/tidy` prints all offences.

use tidy::{Offence, ceilings, directions, protocols, report, shape, sources};

/// No offence, or a list of all.
#[track_caller]
fn expect_none(offences: &[Offence]) {
    let list = offences.iter().fold(String::new(), |list, it| format!("{list}{it}\n"));
    assert!(offences.is_empty(), "{} offences:\n{list}", offences.len());
}

#[test]
fn rooms_use_those_below_them_alone() {
    expect_none(&directions::against(&sources::rust()));
}

#[test]
fn every_file_says_at_its_top_what_it_is() {
    let rust = sources::rust();
    expect_none(&rust.iter().filter_map(shape::untitled).collect::<Vec<_>>());
}

#[test]
fn every_end_to_end_test_runs_over_both_protocols_or_says_why_not() {
    expect_none(&protocols::undecided(&sources::rust()));
}

#[test]
fn no_room_is_above_its_ceiling() {
    let mut above = String::new();
    for (name, room) in report::rooms() {
        let counts = room.counts().named().into_iter().zip(ceilings::of(&name).named());
        for (((kind, has), (_, may)), offences) in counts.zip(room.offences()) {
            if has > may {
                above += &format!("{name}: {has} {kind}, at most {may}:\n");
                offences.iter().for_each(|it| above += &format!("    {it}\n"));
            } else if has < may && may > 5 {
                println!("{name}: {has} {kind}; the ceiling of {may} can go down");
            }
        }
    }
    assert!(above.is_empty(), "{above}");
}

#[test]
fn every_ceiling_is_a_rooms() {
    let rooms = report::rooms();
    for room in ceilings::rooms() {
        assert!(rooms.contains_key(room), "there is no room {room}");
    }
}
