//! A relay in a terminal of its own, which script(1) makes. The tests of the output at a terminal call it. The relay
//! always ends with its `Terminal`, though a terminal that hangs up sends SIGHUP, which is a reload.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::Signal;

use super::proc::Pid;
use super::relay::BINARY;

#[derive(Debug)]
pub(crate) struct Terminal {
    script: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    /// Starts the relay with `arguments`, as a shell reads them.
    pub(crate) fn start(arguments: &str, environment: &[(&str, &str)]) -> Self {
        let mut script = Command::new("script");
        script.args(["-qefc", &format!("exec {BINARY} {arguments}"), "/dev/null"]);
        script.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut script = script.spawn().expect("script must be installed");
        let lines = BufReader::new(script.stdout.take().unwrap()).lines();
        Self { script, lines }
    }

    /// Reads what stands in the terminal, up to the line with `last`.
    #[track_caller]
    pub(crate) fn read_until(&mut self, last: &str) -> String {
        let mut said = String::new();
        while !said.contains(last) {
            said += &(self.lines.next().expect("more to come").unwrap() + "\n");
        }
        said
    }

    fn relays(&self) -> Vec<Pid> {
        i32::try_from(self.script.id()).map_or(Vec::new(), |pid| Pid(pid).children())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        for relay in self.relays() {
            relay.signal(Signal::SIGKILL);
        }
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
