//! The benchmark: this relay beside its peers, and beside the least that the same work can cost.
//!
//! A load generator (`engine`, `end`, `carry`, `exchanges`) drives every target with the same work: no disk, every
//! byte is read. Contenders of a scene (`scenes`) run by turns, round after round, so that all of them suffer alike
//! from what the machine does meanwhile. A probe before and after each run tells whether the CPUs have a cache in
//! common (`machine`), and each run is tagged with that. The results are ratios of contenders of the same scene with
//! the same tag; a figure alone says little, and only about this machine.
//!
//! - *Cost* is the CPU time, user and system, of all processes of the target, as the scheduler counts it. Loopback has
//!   no network card: the kernel bills what TCP does for either end to the process that happens to run, mostly to the
//!   caller of send. So the cost of target and generator together stands beside it.
//! - *Peak memory* is what the target's processes have in RAM, what they share counted once, looked at twice a second.
//!   The segment of shared memory is part of idontstore's, and is as large from the start.
//! - No process is pinned to a CPU. Sender, target and receiver share what CPUs there are.
//!
//! `scripts/bench` builds and installs what it needs and runs it; `benches/README.md` tells more.

mod carry;
mod end;
mod engine;
mod exchanges;
mod goal;
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

use goals::GOALS;
use machine::Distance;
use nix::unistd::geteuid;
use plan::{Certificate, Plan, Stage};
use sample::{Metric, Run, Runs, is_of};
use scenes::{Contender, SCENES, Scene};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use targets::pair::{Socat, TransitRelay};

/// How long a run is put off for the machine to be as it should be, and all runs of a scene together.
const CALM_PATIENCE: Duration = Duration::from_secs(10);
const CALM_PATIENCE_SCENE: Duration = Duration::from_secs(60);

/// An error is told to the person who runs this. No code handles it.
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
    if !geteuid().is_root() {
        return Err(
            "only root may look into the programs' memory, and start them as other users".into()
        );
    }
    let network = machine::enter_network();
    let files = machine::raise_files()?;
    let mut machine = machine::description(&network);
    machine.push(format!("open files: {files} at most"));
    machine.extend(targets_described(&plan)?);
    // Where files are says nothing of what was measured, and the commit has a line of its own.
    let told = arguments.iter().filter(|it| !it.contains('/') && !it.starts_with("--commit"));
    let told: Vec<&str> = told.map(String::as_str).collect();
    machine.push(format!("options of this run: `{}`", told.join(" ")));
    machine.iter().for_each(|line| println!("{line}"));
    if !plan.smoke {
        estimate(&plan, &scenes);
    }
    let keep = Keep::new(&plan)?;
    let stage = Stage { plan, certificate: Certificate::make()? };
    let (mut runs, mut failures) = (Runs::default(), Vec::new());
    for (index, scene) in scenes.iter().enumerate() {
        run_scene(scene, &stage, &mut runs, &mut failures);
        let left: Vec<&str> = scenes[index + 1..].iter().map(|scene| scene.name).collect();
        keep.write(&machine, &runs, &failures, &left)?;
    }
    let document = table::document(&keep.title, &machine, &runs, &failures);
    if stage.plan.smoke {
        println!("\n{} runs, {} failures", runs.0.len(), failures.len());
    } else {
        println!("\n{document}");
    }
    Ok(failures.is_empty())
}

/// Where the machine is another one, or is not quiet, it takes longer.
fn estimate(plan: &Plan, scenes: &[&Scene]) {
    let round: f64 = scenes.iter().map(|scene| scene.round_seconds).sum();
    let minutes = |rounds: usize| round * rounds as f64 / 60.0;
    let (least, most) = (minutes(plan.rounds), minutes(plan.rounds + plan.further_rounds));
    println!(
        "with all contenders and sizes as by default, this takes {least:.0} to {most:.0} minutes"
    );
}

fn chosen(plan: &Plan) -> Outcome<Vec<&'static Scene>> {
    let names: Vec<&str> = SCENES.iter().map(|scene| scene.name).collect();
    if let Some(wrong) = plan.scenes.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("no scene {wrong}; there are {}", names.join(", ")).into());
    }
    let is_chosen = |name: &str| plan.scenes.is_empty() || plan.scenes.iter().any(|it| it == name);
    Ok(SCENES.iter().filter(|scene| is_chosen(scene.name)).collect())
}

/// Versions, and who is missing.
fn targets_described(plan: &Plan) -> Outcome<Vec<String>> {
    let relay = Command::new(plan.relay()).arg("--version").output()?;
    let relay = String::from_utf8_lossy(&relay.stdout).trim().to_owned();
    let commit = plan.commit.as_deref().unwrap_or("not told");
    let piping = plan.piping.as_ref().and_then(|script| {
        // index.js is in dist/src of its package.
        let package = fs::read_to_string(script.ancestors().nth(3)?.join("package.json")).ok()?;
        let version = package.split("\"version\": \"").nth(1)?.split('"').next()?;
        Some(format!("piping-server {version}, node {}", plan::version("node")?))
    });
    let programs = ["nginx", "haproxy", "wrk"].map(|name| (name, plan::version(name)));
    let transit = plan.twist.as_ref().and_then(|twist| TransitRelay::version(twist));
    let more = [("Piping Server", piping), ("transit relay", transit), ("socat", Socat::version())];
    let peers = programs.into_iter().chain(more);
    let peers =
        peers.map(|(name, version)| version.unwrap_or_else(|| format!("**{name} is missing**")));
    let peers: Vec<String> = peers.collect();
    Ok(vec![format!("{relay}, commit {commit}"), format!("peers: {}", peers.join("; "))])
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
    let mut patience = if stage.plan.smoke { None } else { Some(CALM_PATIENCE_SCENE) };
    let rounds = stage.plan.rounds;
    for round in 1..=rounds + stage.plan.further_rounds {
        let lacks = |name: &str| round <= rounds || runs.near(scene.name, name) < rounds;
        let mut lacking: Vec<bool> = contenders.iter().map(|it| lacks(&it.name)).collect();
        // Further rounds are of no use if CPUs are never near.
        let is_hopeless =
            || round > rounds && contenders.iter().all(|it| runs.near(scene.name, &it.name) == 0);
        if !lacking.contains(&true) || is_hopeless() {
            break;
        }
        // A contender that is compared with another needs a run of the other in the same round.
        for (contender, lacks) in contenders.iter().zip(&mut lacking) {
            *lacks |= scene.ratios.iter().any(|(_, family)| is_of(&contender.name, family));
            *lacks |= GOALS.iter().any(|goal| goal.is_by(scene.name, &contender.name));
        }
        let running = contenders.iter_mut().zip(lacking).filter(|(_, lacks)| *lacks);
        for (contender, _) in running {
            match run(scene, contender, round, &mut patience) {
                Ok(run) => {
                    println!(
                        "  {round:2} {:5} {:43} {}",
                        run.distance,
                        run.contender,
                        line(scene, &run)
                    );
                    runs.0.push(run);
                }
                Err(error) => {
                    println!("  {round:2} FAILED {:42} {error}", contender.name);
                    failures.push(format!("{}, {}: {error}", scene.name, contender.name));
                }
            }
        }
    }
}

/// `patience`: how long the scene's runs may still be put off together; `None` where nothing is measured.
fn run(
    scene: &Scene,
    contender: &mut Contender,
    round: usize,
    patience: &mut Option<Duration>,
) -> Outcome<Run> {
    let (others, before) = patience.as_mut().map_or((0.0, None), calm);
    let sample = (contender.run)()?;
    let probes = [before, patience.and_then(|_| machine::line_ns())];
    let quiet = others <= machine::OTHERS_MAX;
    let distance = if quiet { Distance::of(probes) } else { Distance::Mixed };
    let (contender, settings) = (contender.name.clone(), contender.settings.clone());
    Ok(Run { scene: scene.name, contender, settings, round, distance, probes, others, sample })
}

/// Waits for the CPUs to be near and for others to do nothing, but not for long: how it is then.
fn calm(patience: &mut Duration) -> (f64, Option<f64>) {
    let most = CALM_PATIENCE.min(*patience);
    let start = Instant::now();
    loop {
        let waited = start.elapsed();
        let (others, probe) = (machine::others(), machine::line_ns());
        let is_calm = others <= machine::OTHERS_MAX && Distance::of([probe; 2]) == Distance::Near;
        if is_calm || start.elapsed() > most {
            *patience = patience.saturating_sub(waited);
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
    let landed = [Metric::OnOneWorker, Metric::OnTwoWorkers, Metric::LeastShare];
    let landed = landed.into_iter().filter_map(|metric| {
        run.sample.of(metric).map(|value| format!("; {value:.0} {}", metric.heading()))
    });
    let landed: String = landed.collect();
    let disturbed = if run.others > machine::OTHERS_MAX { "  (others are busy)" } else { "" };
    format!("{}{landed}  [{} ns]{disturbed}", values.join(", "), probes.join(", "))
}

/// Where the document and the plot are kept, if the plan says so.
struct Keep {
    title: String,
    /// The directory, and what the files are called in it.
    files: Option<(PathBuf, String)>,
}

impl Keep {
    fn new(plan: &Plan) -> Outcome<Self> {
        let date = String::from_utf8(Command::new("date").arg("+%F").output()?.stdout)?;
        let (date, cpu) = (date.trim(), machine::cpu_model());
        let words = cpu.split(|it: char| !it.is_ascii_alphanumeric()).filter(|it| !it.is_empty());
        let slug = words.collect::<Vec<_>>().join("-").to_lowercase();
        let files = plan.results.clone().map(|directory| (directory, format!("{date}-{slug}")));
        Ok(Self { title: format!("Side by side, {date}, {cpu}"), files })
    }

    /// After each scene, so that what was measured is there if the rest fails. `left`: scenes that are still to come.
    fn write(
        &self,
        machine: &[String],
        runs: &Runs,
        failures: &[String],
        left: &[&str],
    ) -> Outcome<()> {
        let Some((directory, name)) = &self.files else { return Ok(()) };
        let mut machine = machine.to_vec();
        if !left.is_empty() {
            machine.push(format!("**not finished**: without {}", left.join(", ")));
        }
        let document = table::document(&self.title, &machine, runs, failures);
        let picture = format!("\n![The first figure of each scene]({name}.svg)\n");
        fs::create_dir_all(directory)?;
        fs::write(directory.join(format!("{name}.md")), document + &picture)?;
        fs::write(directory.join(format!("{name}.svg")), plot::plot(&self.title, runs))?;
        println!("written: {name}.md and {name}.svg");
        Ok(())
    }
}
