//! Prints how often each room offends against each rule, and how often it may. Names of rooms, or parts of paths, as
//! arguments: prints each offence there as well. `scripts/tidy` runs it.

use std::io::{self, Write};

use tidy::report::Room;
use tidy::{ceilings, report};

fn main() -> io::Result<()> {
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    let mut out = io::stdout().lock();
    let rooms = report::rooms();
    for (name, room) in &rooms {
        offences(&mut out, name, room, &wanted)?;
    }
    writeln!(
        out,
        "{:14}{:>11}{:>14}{:>14}{:>17}{:>18}",
        "has/may have", "circles", "long files", "wide lines", "retired words", "subjectless %"
    )?;
    for (name, room) in &rooms {
        write!(out, "{name:14}")?;
        let columns = room.counts().named().into_iter().zip(ceilings::of(name).named());
        for (((_, has), (_, may)), width) in columns.zip([11, 14, 14, 17, 18]) {
            write!(out, "{:>width$}", format!("{has}/{may}"))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Prints the offences of a wanted room, or of wanted files in it.
fn offences(out: &mut impl Write, name: &str, room: &Room, wanted: &[String]) -> io::Result<()> {
    let names = room.counts().named().map(|(name, _)| name.trim_start_matches("% of "));
    for (kind, offences) in names.iter().zip(room.offences()) {
        for offence in offences {
            let path = offence.path.to_string_lossy();
            if wanted.iter().any(|it| *it == name || path.contains(&**it)) {
                writeln!(out, "{offence}  [{kind}]")?;
            }
        }
    }
    Ok(())
}
