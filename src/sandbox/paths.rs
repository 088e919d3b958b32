//! No path: landlock refuses every access to files by name, for every system call. Landlock does the same, as far as
//! this kernel's goes, for TCP sockets that would bind or connect, for abstract Unix sockets and for signals to
//! others. Open descriptors stay open.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
    Scope,
};

/// The newest version that the library knows; an older kernel does what it can.
const NEWEST: ABI = ABI::V9;

/// Denies everything, as no rule allows anything. A kernel without landlock denies nothing.
pub(super) fn deny_all() -> Result<(), RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()
        .map(drop)
}

/// Whether this kernel has landlock at all.
pub(super) fn can_be_denied() -> bool {
    let strictly = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    strictly.handle_access(AccessFs::from_all(ABI::V1)).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::process::fork_child;
    use nix::sys::wait::{WaitStatus, waitpid};
    use std::fs::File;
    use std::io::{ErrorKind, Write};

    #[test]
    fn paths_are_denied_by_landlock_alone_and_what_is_open_stays_open() {
        if !can_be_denied() {
            eprintln!("skipped: this kernel has no landlock");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut open = File::create(directory.path().join("open")).unwrap();
        let Some(child) = fork_child().unwrap() else {
            deny_all().unwrap();
            let denied = |opened: std::io::Result<File>| {
                opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
            };
            let all = denied(File::open("/etc/passwd"))
                && denied(File::open("/dev/null"))
                && denied(File::create(directory.path().join("new")))
                && open.write_all(b"text").is_ok();
            // The child must not clean up its parent's objects.
            std::mem::forget(directory);
            std::process::exit(if all { 0 } else { 1 });
        };
        let ended = waitpid(child.pid, None).unwrap();
        assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
        assert_eq!(std::fs::read(directory.path().join("open")).unwrap(), b"text");
    }
}
