//! Runs the attacks at length, and prints what the honest clients keep of their speed. scripts/attack starts it.

use attack::{Beside, Count, Outcome, SCENES, Scale, Scene, Target, Transport, run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The part of their speed that honest clients must keep.
const GOAL: f64 = 0.8;

const HELP: &str = "\
Attacks a relay on this machine, and prints what honest clients beside keep of their speed.

  --program=PATH         the relay
  --scenes=NAME,NAME     these scenes alone; --list names them
  --transport=plain|tls  one of the two alone
  --seconds=60           of each attack
  --alone=10             seconds for which the honest clients are measured alone before it
  --connections=1000     of the attackers
";

struct Options {
    program: PathBuf,
    scenes: Vec<&'static Scene>,
    transports: Vec<Transport>,
    scale: Scale,
}

fn main() -> ExitCode {
    match options() {
        Ok(Some(options)) => attack(&options),
        Ok(None) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("attack: {message}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn options() -> Result<Option<Options>, String> {
    let mut options = Options {
        program: PathBuf::from("target/release/idontstore"),
        scenes: SCENES.iter().collect(),
        transports: vec![Transport::Plain, Transport::Tls],
        scale: Scale::long(),
    };
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').unwrap_or((&argument, ""));
        let number = || value.parse().map_err(|_| format!("{name} takes a number"));
        match name {
            "--program" => options.program = value.into(),
            "--scenes" => {
                let find = |name| Scene::named(name).ok_or(format!("no scene {name}"));
                options.scenes = value.split(',').map(find).collect::<Result<_, _>>()?;
            }
            "--transport" if value == "plain" => options.transports = vec![Transport::Plain],
            "--transport" if value == "tls" => options.transports = vec![Transport::Tls],
            "--seconds" => options.scale.duration = Duration::from_secs(number()?),
            "--alone" => options.scale.alone = Duration::from_secs(number()?),
            "--connections" => {
                options.scale.connections = usize::try_from(number()?).unwrap_or(usize::MAX);
            }
            "--list" => {
                SCENES.iter().for_each(|scene| println!("{}", scene.name));
                return Ok(None);
            }
            "--help" => {
                print!("{HELP}");
                return Ok(None);
            }
            _ => return Err(format!("unknown option {argument}")),
        }
    }
    Ok(Some(options))
}

fn attack(options: &Options) -> ExitCode {
    println!(
        "{:<24} {:<5} {:>13} {:>15} {:>15} {:>21}  verdict",
        "scene", "", "kept: bytes", "exchanges/s", "exchange p99", "failed: large, small"
    );
    let mut is_good = true;
    for scene in &options.scenes {
        for transport in &options.transports {
            if *transport == Transport::Plain || scene.tls {
                is_good &= play(options, scene, *transport);
            }
        }
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(options: &Options, scene: &Scene, transport: Transport) -> bool {
    let result = Target::start(&options.program, transport)
        .and_then(|target| run(&target, scene, &options.scale));
    let beside = match result {
        Ok(beside) => beside,
        Err(error) => {
            eprintln!("attack: {error}");
            return false;
        }
    };
    let ratios = beside.ratios().unwrap_or([f64::NAN; 2]);
    let is_fast = beside.alone.is_none() || ratios.iter().all(|ratio| *ratio >= GOAL);
    let is_good = is_fast && beside.is_unharmed();
    tell(scene, transport, &beside, is_good);
    is_good
}

fn tell(scene: &Scene, transport: Transport, beside: &Beside, is_good: bool) {
    let [bytes, exchanges] = beside.ratios().unwrap_or([f64::NAN; 2]);
    let Outcome { transfers, exchanges: small, .. } = &beside.beside;
    let of = |count: &Count| format!("{} of {}", count.failed, count.done + count.failed);
    let p99 = 1000.0 * small.quantile(0.99);
    let before = beside.alone.as_ref().map_or(f64::NAN, |it| 1000.0 * it.exchanges.quantile(0.99));
    println!(
        "{:<24} {:<5} {bytes:>13.2} {exchanges:>15.2} {:>15} {:>21}  {}",
        scene.name,
        if transport == Transport::Tls { "tls" } else { "plain" },
        format!("{before:.0} -> {p99:.0} ms"),
        format!("{}, {}", of(transfers), of(small)),
        if is_good { "good" } else { "BAD" },
    );
    println!("    {:?}", beside.attack);
    for told in transfers.told.iter().chain(&small.told) {
        println!("    {told}");
    }
}
