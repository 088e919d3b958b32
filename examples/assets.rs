//! Writes the manual page and the shells' completions into a directory, from the definition of the command line.
//! Called by `scripts/package`: `cargo run --example assets -- DIRECTORY`.

use clap_complete::{Shell, generate_to};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

const NAME: &str = "idontstore";

fn main() -> io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "usage: assets DIRECTORY"));
    };
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut idontstore::cli::command(), NAME, directory)?;
    }
    write_man(&mut File::create(directory.join("idontstore.1"))?)
}

fn write_man(out: &mut File) -> io::Result<()> {
    let man = Man::new(idontstore::cli::command());
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    // Clap's `render_subcommands_section` refers to pages that do not exist, so it is not used.
    let mut commands = Roff::new();
    commands.control("SH", ["COMMANDS"]);
    for command in idontstore::cli::command().get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        add_entry(&mut commands, command.get_name(), &about);
    }
    commands.to_writer(out)?;
    man.render_options_section(out)?;
    let mut rest = Roff::new();
    for (title, entries) in SECTIONS {
        rest.control("SH", [*title]);
        entries.iter().for_each(|(term, text)| add_entry(&mut rest, term, text));
    }
    rest.to_writer(out)?;
    man.render_version_section(out)
}

fn add_entry(to: &mut Roff, term: &str, text: &str) {
    to.control("TP", []).text([bold(term)]).text([roman(text)]);
}

/// Sections that the command line does not print itself: a title, and terms with their meanings.
const SECTIONS: &[(&str, &[(&str, &str)])] = &[
    (
        "EXIT STATUS",
        &[
            ("0", "it was stopped, or did what was asked"),
            ("1", "it could not start, could not go on, or refused what was asked"),
            ("2", "the command line was wrong"),
            ("78", "the configuration was wrong"),
        ],
    ),
    (
        "SIGNALS",
        &[
            ("TERM, INT", "stop at once"),
            ("QUIT", "stop once running transfers are done, or timeouts.stop_timeout is over"),
            ("HUP", "read the configuration again: new workers take over, the old ones drain"),
            ("USR1", "open the access log anew"),
            ("USR2", "become the program that is installed now"),
            ("WINCH", "let all workers drain, and stay"),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "LISTEN_PID, LISTEN_FDS",
                "listeners that the service manager has opened: sd_listen_fds(3)",
            ),
            (
                "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID",
                "whom to tell how it stands: sd_notify(3)",
            ),
        ],
    ),
    (
        "FILES",
        &[
            (
                "/etc/idontstore/idontstore.toml",
                "the configuration, where a package has installed it",
            ),
            ("/usr/share/doc/idontstore/idontstore.toml", "every key, with its default and unit"),
        ],
    ),
];
