//! What came of it as a document: Markdown, which is readable as it stands.

use crate::goals::{Bound, GOALS};
use crate::machine::{Distance, OTHERS_MAX};
use crate::sample::{Metric, Run, Runs, Spread};
use crate::scenes::{SCENES, Scene};
use std::fmt::Write;

/// `failures`: the scene and contender, and what went wrong.
pub(crate) fn document(
    title: &str,
    machine: &[String],
    runs: &Runs,
    failures: &[String],
) -> String {
    let mut text = format!("# {title}\n\n");
    for line in machine {
        let _ = writeln!(text, "- {line}");
    }
    text += "\nEach figure is the median of some rounds and, in brackets, their range; contenders ran by turns. \
             *x* is the ratio to the named one, pair by pair of the same round. *near* and *far* say whether the \
             two CPUs had a cache in common during a run (*mixed*: not all the time, or others used the machine); only like is compared with like.\n";
    text += &disturbed(runs);
    for failure in failures {
        let _ = writeln!(text, "\n**Failed:** {failure}");
    }
    text += &goals(runs);
    for scene in SCENES {
        for distance in Distance::ALL {
            text += &table(scene, distance, runs);
        }
    }
    text
}

fn disturbed(runs: &Runs) -> String {
    let count = runs.0.iter().filter(|run| run.others > OTHERS_MAX).count();
    let near = runs.0.iter().filter(|run| run.distance == Distance::Near).count();
    format!(
        "\n{} runs, {near} of them near; before {count}, others kept more than {OTHERS_MAX} CPUs busy.\n",
        runs.0.len()
    )
}

fn goals(runs: &Runs) -> String {
    let mut rows = String::new();
    for goal in GOALS {
        let bound = match goal.bound {
            Bound::AtMost(most) => format!("at most {most}"),
            Bound::AtLeast(least) => format!("at least {least}"),
        };
        let (ratio, met) = match goal.outcome(runs) {
            Some((ratio, true)) => (format!("{ratio:.2}"), "yes"),
            Some((ratio, false)) => (format!("{ratio:.2}"), "**no**"),
            None if goal.is_asked(runs) => ("-".to_owned(), "not measured"),
            None => continue,
        };
        let _ = writeln!(rows, "| {} | {ratio} | {bound} | {met} |", goal.says);
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "\n## Goals: ratios of medians, near\n\n| goal | is | has to be | met |\n|---|---|---|---|\n{rows}"
    )
}

/// The contenders of a scene, in the order in which they ran first.
pub(crate) fn contenders<'r>(scene: &Scene, runs: &'r Runs) -> Vec<&'r str> {
    let mut names: Vec<&str> = Vec::new();
    for Run { contender, .. } in runs.0.iter().filter(|run| run.scene == scene.name) {
        if !names.contains(&contender.as_str()) {
            names.push(contender);
        }
    }
    names
}

fn table(scene: &Scene, distance: Distance, runs: &Runs) -> String {
    let rows =
        contenders(scene, runs).into_iter().filter_map(|name| row(scene, name, distance, runs));
    let rows: String = rows.collect();
    if rows.is_empty() {
        return rows;
    }
    let headings = scene.metrics.iter().map(|metric| metric.heading().to_owned());
    let ratios =
        scene.ratios.iter().map(|metric| format!("{}, x {}", metric.heading(), scene.limit));
    let headings: Vec<String> = headings.chain(ratios).collect();
    let rule = "---|".repeat(headings.len() + 2);
    format!(
        "\n## {} ({distance})\n\n| | runs | {} |\n|{rule}\n{rows}",
        scene.title,
        headings.join(" | ")
    )
}

fn row(scene: &Scene, name: &str, distance: Distance, runs: &Runs) -> Option<String> {
    let spread = |metric: Metric| runs.spread(scene.name, name, metric, distance);
    let count = scene.metrics.iter().find_map(|metric| spread(*metric))?.count;
    let shown = |spread: Option<Spread>, digits: usize| {
        spread.map_or("-".to_owned(), |spread| format!("{spread:.digits$}"))
    };
    let values = scene.metrics.iter().map(|metric| shown(spread(*metric), metric.digits()));
    let ratios = scene.ratios.iter().map(|metric| {
        let to_itself = name == scene.limit;
        let ratio = runs.ratio(scene.name, [name, scene.limit], *metric, distance);
        shown(ratio.filter(|_| !to_itself), 2)
    });
    let cells: Vec<String> = values.chain(ratios).collect();
    Some(format!("| {name} | {count} | {} |\n", cells.join(" | ")))
}
