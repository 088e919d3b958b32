//! How idontstore is set up: its configuration, and the user and limits that it runs with.

use super::WORKERS;
use crate::machine::cpus;
use crate::stream::Tls;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::path::Path;
use std::process::{Command, Stdio};

/// The configuration that the Debian package installs.
const PACKAGED: &str = include_str!("../../../../conf/debian/idontstore.toml");
/// The limits of the package's unit: open files, and bytes that are kept in RAM.
const UNIT_LIMITS: [(&str, Resource, u64); 2] =
    [("nofile", Resource::RLIMIT_NOFILE, 65_536), ("memlock", Resource::RLIMIT_MEMLOCK, 256 << 20)];

/// The differences from the default configuration.
#[derive(Debug, Default)]
pub(crate) struct Setup<'a> {
    /// Whether it is set up as the Debian package does, for a user without privilege, and over plain HTTP.
    pub(crate) packaged: bool,
    /// Further sections.
    pub(crate) more: &'a str,
    /// The generator's TLS configuration, and the PEM files of the certificate and its key.
    pub(crate) tls: Option<(&'a Tls, &'a Path, &'a Path)>,
}

impl Setup<'_> {
    pub(super) fn configuration(&self, user: u32) -> String {
        let tls = self.tls.map(|(_, certificate, key)| {
            format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n")
        });
        format!(
            "workers = {WORKERS}\nuser = \"{user}\"\nlog.level = \"warn\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\n{}{}",
            tls.unwrap_or_default(),
            self.more
        )
    }

    /// `pipes`: how many it has made, where that is known.
    pub(crate) fn settings(&self, pipes: Option<usize>) -> String {
        let pipes = pipes.map_or_else(String::new, |pipes| format!(", {pipes} pipes"));
        let more = self.more.trim_end().replace('\n', ", ").replace("], ", "] ");
        let more = if more.is_empty() { more } else { format!("; `{more}`") };
        if self.packaged {
            let limits = unit_limits().map(|(name, limit, wanted)| {
                let of = if limit < wanted { format!(" of {wanted}") } else { String::new() };
                format!("{name} {limit}{of}")
            });
            let limits = limits.join(", ");
            let auto = if cpus() == WORKERS { "`workers = \"auto\"`" } else { "`workers` set" };
            format!(
                "the Debian package's configuration and limits ({limits}), as a user without privilege, without \
                 systemd's own filters; {WORKERS} workers ({auto}){pipes}{more}"
            )
        } else {
            format!("{WORKERS} workers{pipes}, a user of its own, `log.level = \"warn\"`{more}")
        }
    }
}

/// The package's configuration, in a directory that need not be the system's. All relays have as many workers, even
/// if `auto` would be more.
pub(super) fn packaged_configuration(directory: &Path, more: &str) -> String {
    let workers = if cpus() == WORKERS { String::new() } else { format!("workers = {WORKERS}\n") };
    let packaged = PACKAGED
        .replace("/run/idontstore", &directory.to_string_lossy())
        .replace("127.0.0.1:8080", "127.0.0.1:0");
    workers + &packaged + more
}

/// The unit's limits as they can be set, and as they should be: in a container root may not be able to raise them.
fn unit_limits() -> [(&'static str, u64, u64); 2] {
    UNIT_LIMITS.map(|(name, resource, wanted)| {
        let limits = || getrlimit(resource).unwrap_or((wanted, wanted));
        let (soft, hard) = limits();
        if hard < wanted {
            let _ = setrlimit(resource, soft, wanted);
        }
        let had = limits().1;
        (name, wanted.min(had), wanted)
    })
}

/// The command that runs a program as the package's unit does: by a user without any capability. The program's
/// messages are dropped.
pub(super) fn unprivileged(program: &Path, user: u32) -> Command {
    let mut command = Command::new("prlimit");
    for (name, limit, _) in unit_limits() {
        command.arg(format!("--{name}={limit}:{limit}"));
    }
    command.arg("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={user}"));
    command.args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--nnp"]);
    command.args(["--pdeathsig", "TERM"]).arg(program).stderr(Stdio::null());
    command
}
