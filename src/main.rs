//! The program: see [`idontstore::cli`].

use idontstore::{cli, master};
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(|config, source| Ok(master::run(config, source)?))
}
