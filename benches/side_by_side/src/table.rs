//! The results as a document: Markdown, which is readable as it stands.

use crate::goal::{Bound, Verdict};
use crate::goals::GOALS;
use crate::machine::{Distance, NEAR_NS_MAX, OTHERS_MAX};
use crate::sample::{Metric, ROUNDS_MIN, Run, Runs, Spread};
use crate::scenes::{SCENES, Scene, are_comparable};
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
    text += &format!(
        "\nEach figure is the median of some rounds and, in brackets, their range; contenders ran by turns. *x* is the \
         ratio to the named one, which of a program's variants is the best in that table by that figure. It is taken pair \
         by pair of the same round; with `~`, of the medians, as no round has both. `*` says that there are fewer than \
         {ROUNDS_MIN} runs, or behind a ratio fewer than {ROUNDS_MIN} pairs: too few for a median to say much. \
         *pipes MiB* is \
         what the pipes may hold if the target has both their ends; it is the kernel's memory, and not part of *peak \
         MiB*. *near* and *far* say how long a cache line took from one CPU to another, before a run and after it: up to \
         {NEAR_NS_MAX} ns, or more (*mixed*: not the same both times, or others used the machine). Only like is compared \
         with like, and mixed runs with none.\n"
    );
    text += &disturbed(runs);
    for failure in failures {
        let _ = writeln!(text, "\n**Failed:** {failure}");
    }
    text += &goals(runs);
    for scene in SCENES {
        for distance in Distance::ALL {
            text += &table(scene, distance, runs);
        }
        text += &settings(scene, runs);
    }
    text
}

fn disturbed(runs: &Runs) -> String {
    let count = runs.0.iter().filter(|run| run.others > OTHERS_MAX).count();
    let near = runs.0.iter().filter(|run| run.distance == Distance::Near).count();
    let probes = |distance: Distance| {
        let these = runs.0.iter().filter(|run| run.distance == distance);
        let Spread { least, most, .. } = Spread::of(these.flat_map(|run| run.probes).flatten())?;
        Some(format!(" Probes around {distance} runs: {least:.0} to {most:.0} ns."))
    };
    let probes: String = Distance::ALL.into_iter().filter_map(probes).collect();
    format!(
        "\n{} runs, {near} of them near; before {count}, others kept more than {OTHERS_MAX} CPUs busy.{probes}\n",
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
        if !goal.is_asked(runs) {
            continue;
        }
        let met = match goal.verdict(runs) {
            Verdict::Met => "yes".to_owned(),
            Verdict::Missed => "**no**".to_owned(),
            Verdict::NotJudged(rounds) => format!("not judged, by {rounds} rounds"),
            Verdict::NotMeasured => "not measured".to_owned(),
        };
        let [near, far] = [Distance::Near, Distance::Far].map(|distance| {
            goal.ratio(runs, distance).map_or("-".to_owned(), |(ratio, _)| format!("{ratio:.2}"))
        });
        let _ = writeln!(rows, "| {} | {near} | {far} | {bound} | {met} |", goal.says);
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "\n## Goals: ratios of medians\n\n*met* is told of near CPUs, if the goal says nothing else, and by \
         {ROUNDS_MIN} rounds at least. Of a program with several variants it is the best.\n\n\
         | goal | near | far | has to be | met |\n|---|---|---|---|---|\n{rows}"
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

/// Mixed runs are not alike: none is measured in another.
fn ratios(scene: &Scene, distance: Distance) -> &'static [(Metric, &'static str)] {
    if distance == Distance::Mixed { &[] } else { scene.ratios }
}

fn table(scene: &Scene, distance: Distance, runs: &Runs) -> String {
    let rows =
        contenders(scene, runs).into_iter().filter_map(|name| row(scene, name, distance, runs));
    let rows: String = rows.collect();
    if rows.is_empty() {
        return rows;
    }
    let headings = scene.metrics.iter().map(|metric| metric.heading().to_owned());
    let ratios = ratios(scene, distance).iter().map(|(metric, family)| {
        let best = runs.best(scene.name, family, *metric, distance);
        format!("{}, x {}", metric.heading(), best.unwrap_or(family))
    });
    let headings: Vec<String> = headings.chain(ratios).collect();
    let rule = "---|".repeat(headings.len() + 2);
    format!(
        "\n## {} ({distance})\n\n| | runs | {} |\n|{rule}\n{rows}",
        scene.title,
        headings.join(" | ")
    )
}

/// In what each contender of a scene differs from its program's defaults; those that do so alike are told together.
fn settings(scene: &Scene, runs: &Runs) -> String {
    let mut told: Vec<(&str, Vec<&str>)> = Vec::new();
    for name in contenders(scene, runs) {
        let mut theirs = runs.0.iter().filter(|run| run.scene == scene.name);
        let Some(run) = theirs.find(|run| run.contender == name) else { continue };
        match told.iter_mut().find(|(settings, _)| *settings == run.settings) {
            Some((_, names)) => names.push(name),
            None => told.push((&run.settings, vec![name])),
        }
    }
    if told.is_empty() {
        return String::new();
    }
    let line = |(settings, names): &(&str, Vec<&str>)| {
        let names: Vec<String> = names.iter().map(|name| format!("*{name}*")).collect();
        format!("- {}: {settings}\n", names.join("; "))
    };
    let lines: String = told.iter().map(line).collect();
    let landed = landed(scene, runs);
    format!("\n{}\n\nSettings beside each program's defaults:\n\n{lines}{landed}", scene.remarks)
}

/// Where the kernel has dealt connections to, of all runs.
fn landed(scene: &Scene, runs: &Runs) -> String {
    let line = |name: &str| {
        let these = || runs.0.iter().filter(|it| it.scene == scene.name && it.contender == name);
        let sum = |metric| these().filter_map(|run| run.sample.of(metric)).sum::<f64>();
        let [one, two] = [Metric::OnOneWorker, Metric::OnTwoWorkers].map(sum);
        let pairs = one + two;
        if pairs > 0.0 {
            return Some(format!(
                "- *{name}*: both ends on one worker in {one} of {pairs} pairs\n"
            ));
        }
        let share = Spread::of(these().filter_map(|run| run.sample.of(Metric::LeastShare)))?;
        let what = Metric::LeastShare.heading();
        Some(format!("- *{name}*: {share:.0} {what}\n"))
    };
    let lines: String = contenders(scene, runs).into_iter().filter_map(line).collect();
    if lines.is_empty() {
        return lines;
    }
    format!("\nHow the kernel dealt connections to the two workers, near or far:\n\n{lines}")
}

fn row(scene: &Scene, name: &str, distance: Distance, runs: &Runs) -> Option<String> {
    let spread = |metric: Metric| runs.spread(scene.name, name, metric, distance);
    let count = scene.metrics.iter().find_map(|metric| spread(*metric))?.count;
    let none = || "-".to_owned();
    let values = scene.metrics.iter().map(|metric| {
        let digits = metric.digits();
        spread(*metric).map_or_else(none, |spread| format!("{spread:.digits$}"))
    });
    let ratios = ratios(scene, distance).iter().map(|(metric, family)| {
        let best = runs.best(scene.name, family, *metric, distance);
        let best = best.filter(|best| are_comparable(name, best));
        let ratio = best.and_then(|to| runs.ratio(scene.name, [name, to], *metric, distance));
        ratio.map_or_else(none, |ratio| format!("{ratio:.2}"))
    });
    let cells: Vec<String> = values.chain(ratios).collect();
    let few = if count < ROUNDS_MIN { "*" } else { "" };
    Some(format!("| {name} | {count}{few} | {} |\n", cells.join(" | ")))
}
