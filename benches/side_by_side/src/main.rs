//! The benchmark: this relay beside its peers, and beside the least that the same work can cost.
//!
//! One load generator (`engine`, `end`, `carry`, `exchanges`) drives every target with the same work: no disk,
//! every byte is read. Contenders of a scene (`scenes`) run by turns, round after round, so that whatever the
//! machine does meanwhile happens to all of them. Before and after each run it is probed whether the CPUs have
//! a cache in common (`machine`), and each run is tagged with that. What counts are ratios of contenders of the
//! same scene with the same tag; a figure alone says little, and only about this machine.
//!
//! - *Cost* is the CPU time, user and system, of all processes of the target, as the scheduler counts it.
//!   Loopback has no network card: what TCP does for either end is billed to whoever happens to run, mostly to
//!   who calls send. So beside it stands the cost of target and generator together.
//! - *Peak memory* is what the target's processes have in RAM, what they share counted once, looked at twice a
//!   second. Of idontstore, the segment of shared memory is part of it, which is as large from the start.
//! - Nothing is pinned to a CPU. Sender, target and receiver share what CPUs there are.
//!
//! `scripts/bench` builds and installs what it needs and runs it; `benches/README.md` tells more.

mod carry;
mod end;
mod engine;
mod exchanges;
mod goals;
mod hearing;
mod limits;
mod machine;
mod payload;
mod plan;
mod plot;
mod process;
mod sample;
mod scenes;
mod stream;
mod table;
mod targets;

use machine::Distance;
use plan::{Certificate, Plan, Stage};
use sample::{Run, Runs};
use scenes::{Contender, SCENES, Scene};
use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// How long a run is put off for the machine to be as it should be.
const CALM_PATIENCE: Duration = Duration::from_secs(10);

/// What can go wrong is told to whoever runs this, and nobody handles it.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match limits::serve(&arguments)
        .and_then(|was_limit| if was_limit { Ok(true) } else { bench(&arguments) })
    {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("side_by_side: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all went well.
fn bench(arguments: &[String]) -> Outcome<bool> {
    if arguments.iter().any(|it| it == "--help" || it == "-h") {
        println!("{}", plan::USAGE);
        return Ok(true);
    }
    let plan = Plan::read(arguments)?;
    let scenes = chosen(&plan)?;
    let network = machine::enter_network();
    machine::raise_files()?;
    let mut machine = machine::description(&network);
    machine.extend(targets_described(&plan));
    // Where files are says nothing of what was measured.
    let told = arguments.iter().filter(|it| !it.contains('/')).map(String::as_str);
    machine.push(format!("options of this run: `{}`", told.collect::<Vec<_>>().join(" ")));
    machine.iter().for_each(|line| println!("{line}"));
    let stage = Stage { plan, certificate: Certificate::make()? };
    let (mut runs, mut failures) = (Runs::default(), Vec::new());
    for scene in scenes {
        run_scene(scene, &stage, &mut runs, &mut failures);
    }
    if stage.plan.smoke {
        println!("\n{} runs, {} failures", runs.0.len(), failures.len());
        return Ok(failures.is_empty());
    }
    tell(&stage.plan, &machine, &runs, &failures)?;
    Ok(failures.is_empty())
}

fn chosen(plan: &Plan) -> Outcome<Vec<&'static Scene>> {
    let names: Vec<&str> = SCENES.iter().map(|scene| scene.name).collect();
    if let Some(wrong) = plan.scenes.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("no scene {wrong}; there are {}", names.join(", ")).into());
    }
    let is_chosen = |name: &str| plan.scenes.is_empty() || plan.scenes.iter().any(|it| it == name);
    Ok(SCENES.iter().filter(|scene| is_chosen(scene.name)).collect())
}

fn targets_described(plan: &Plan) -> Vec<String> {
    let piping = plan.piping.as_ref().and_then(|script| {
        // index.js is in dist/src of its package.
        let package = fs::read_to_string(script.ancestors().nth(3)?.join("package.json")).ok()?;
        let version = package.split("\"version\": \"").nth(1)?.split('"').next()?;
        Some(format!("piping-server {version}, node {}", plan::version("node")?))
    });
    let programs = ["nginx", "haproxy", "wrk"].map(plan::version);
    let found: Vec<String> = programs.into_iter().flatten().chain(piping).collect();
    vec![format!("peers: {}", found.join("; "))]
}

fn run_scene(scene: &'static Scene, stage: &Stage, runs: &mut Runs, failures: &mut Vec<String>) {
    println!("\n{}: {}", scene.name, scene.title);
    let mut contenders = match (scene.start)(stage) {
        Ok(contenders) => contenders,
        Err(error) => {
            println!("  FAILED: {error}");
            failures.push(format!("{}: {error}", scene.name));
            return;
        }
    };
    contenders.retain(|contender| stage.plan.lets_in(&contender.name));
    for round in 1..=stage.plan.rounds {
        for contender in &mut contenders {
            match run(scene, contender, round, stage.plan.smoke) {
                Ok(run) => {
                    println!(
                        "  {round:2} {:5} {:38} {}",
                        run.distance,
                        run.contender,
                        line(scene, &run)
                    );
                    runs.0.push(run);
                }
                Err(error) => {
                    println!("  {round:2} FAILED {:37} {error}", contender.name);
                    failures.push(format!("{}, {}: {error}", scene.name, contender.name));
                }
            }
        }
    }
}

fn run(scene: &Scene, contender: &mut Contender, round: usize, smoke: bool) -> Outcome<Run> {
    let (others, before) = if smoke { (0.0, None) } else { calm() };
    let sample = (contender.run)()?;
    let probes = [before, if smoke { None } else { machine::line_ns() }];
    let quiet = others <= machine::OTHERS_MAX;
    let distance = if quiet { Distance::of(probes) } else { Distance::Mixed };
    let contender = contender.name.clone();
    Ok(Run { scene: scene.name, contender, round, distance, probes, others, sample })
}

/// Waits for the CPUs to be near and for others to do nothing, but not for long: how it is then.
fn calm() -> (f64, Option<f64>) {
    let start = Instant::now();
    loop {
        let (others, probe) = (machine::others(), machine::line_ns());
        let is_calm = others <= machine::OTHERS_MAX && Distance::of([probe; 2]) == Distance::Near;
        if is_calm || start.elapsed() > CALM_PATIENCE {
            return (others, probe);
        }
    }
}

fn line(scene: &Scene, run: &Run) -> String {
    let values = scene.metrics.iter().filter_map(|metric| {
        let (value, digits) = (run.sample.of(*metric)?, metric.digits());
        Some(format!("{value:.digits$} {}", metric.heading()))
    });
    let values: Vec<String> = values.collect();
    let probes = run.probes.map(|ns| ns.map_or("-".to_owned(), |ns| format!("{ns:.0}")));
    let disturbed = if run.others > machine::OTHERS_MAX { "  (others are busy)" } else { "" };
    format!("{}  [{} ns]{disturbed}", values.join(", "), probes.join(", "))
}

/// Prints what came of it, and keeps it where the plan says.
fn tell(plan: &Plan, machine: &[String], runs: &Runs, failures: &[String]) -> Outcome<()> {
    let date = String::from_utf8(Command::new("date").arg("+%F").output()?.stdout)?;
    let cpu = machine::cpu_model();
    let title = format!("Side by side, {}, {cpu}", date.trim());
    let document = table::document(&title, machine, runs, failures);
    println!("\n{document}");
    let Some(results) = &plan.results else { return Ok(()) };
    let slug: String =
        cpu.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { ' ' }).collect();
    let slug: Vec<&str> = slug.split_whitespace().collect();
    let name = format!("{}-{}", date.trim(), slug.join("-").to_lowercase());
    fs::create_dir_all(results)?;
    let picture = format!("\n![The first figure of each scene]({name}.svg)\n");
    fs::write(results.join(format!("{name}.md")), document + &picture)?;
    fs::write(results.join(format!("{name}.svg")), plot::plot(&title, runs))?;
    println!("written: {name}.md and {name}.svg");
    Ok(())
}
