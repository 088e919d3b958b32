//! Counting a program's own instructions, and comparing them with a file of counts; for `counts.rs`.

use std::process::{Command, ExitCode};
use std::{env, fs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts.txt");
const COMMENT: &str = "\
# Instructions that the parts take; benches/counts.rs says what each does. A step of scripts/test compares.
# To write this file anew: cargo bench -p idontstore --bench counts -- --write
";
const TOLERATED_PERCENT: f64 = 5.0;
/// The exit code that `scripts/test` takes for "cannot be done here".
const SKIPPED: u8 = 77;

/// Instructions that this program takes between entering `function` and leaving it, when it is called
/// with `--one name`.
fn instructions(function: &str, name: &str) -> u64 {
    let program = env::current_exe().unwrap();
    let profile = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new("valgrind")
        .args(["-q", "--tool=callgrind", &format!("--toggle-collect=*{function}*")])
        .arg(format!("--callgrind-out-file={}", profile.path().display()))
        .arg(format!("./{}", program.file_name().unwrap().display()))
        .args(["--one", name])
        // Path and environment lie at the bottom of the stack, so the same ones everywhere move nothing on it.
        .current_dir(program.parent().unwrap())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .status()
        .expect("valgrind is needed");
    assert!(status.success(), "{name}: {status}");
    let profile = fs::read_to_string(profile.path()).unwrap();
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    let total = total.parse().unwrap();
    assert!(total > 0, "{name}: nothing was counted in {function}");
    total
}

/// The compiler, the C library and the CPU: counts depend on them beside the code.
fn surroundings() -> String {
    let ask = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().expect(program);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let [rust, libc] = [ask("rustc", "--version"), ask("getconf", "GNU_LIBC_VERSION")];
    let avx2 = fs::read_to_string("/proc/cpuinfo").unwrap().contains(" avx2 ");
    let cpu = format!("{} {} AVX2", env::consts::ARCH, if avx2 { "with" } else { "without" });
    format!("# Counted with: {rust}, {libc}, {}, {cpu}", ask("valgrind", "--version"))
}

/// Writes the file.
pub(crate) fn write<'n>(function: &str, names: impl Iterator<Item = &'n str>) -> ExitCode {
    let counts = names.map(|name| format!("{:>10} {name}\n", instructions(function, name)));
    fs::write(FILE, format!("{COMMENT}{}\n\n{}", surroundings(), counts.collect::<String>()))
        .unwrap();
    ExitCode::SUCCESS
}

/// Counts and compares: fails if there is more to do than the file says, or anything else than it names.
pub(crate) fn compare<'n>(
    function: &str,
    names: impl Iterator<Item = &'n str> + Clone,
) -> ExitCode {
    let file = fs::read_to_string(FILE).unwrap();
    let lines = file.lines().filter_map(|line| line.trim_start().split_once(' '));
    let counts = lines.filter_map(|(count, name)| Some((count.parse::<f64>().ok()?, name)));
    if !counts.clone().map(|(_, name)| name).eq(names) {
        println!("counts.txt does not name what is counted: write it anew");
        return ExitCode::FAILURE;
    }
    let (mut grown, mut shrunk) = (false, false);
    for (before, name) in counts {
        let count = instructions(function, name);
        let percent = (count as f64 / before - 1.0) * 100.0;
        let (more, less) = (percent > TOLERATED_PERCENT, percent < -TOLERATED_PERCENT);
        let verdict = if more {
            "   <-- MORE"
        } else if less {
            "   <-- less"
        } else {
            ""
        };
        println!("{count:>10} {percent:>+7.2} %  {name}{verdict}");
        (grown, shrunk) = (grown || more, shrunk || less);
    }
    if shrunk {
        println!("Over {TOLERATED_PERCENT} % less: write counts.txt anew, so that it stays so.");
    }
    if !grown {
        return ExitCode::SUCCESS;
    }
    println!("Over {TOLERATED_PERCENT} % more than counts.txt says.");
    let here = surroundings();
    if file.lines().any(|line| line == here) {
        return ExitCode::FAILURE;
    }
    println!("It tells nothing of the code: those counts are of other surroundings.\n{here}");
    ExitCode::from(SKIPPED)
}
