//! Users of this machine, and how to become one.

use super::process;
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{self, Gid, Uid, getgrouplist, getppid, setgroups, setresgid, setresuid};
use std::ffi::CString;
use std::io::ErrorKind;
use std::time::Duration;

/// The user that owns nothing, and its number wherever Linux runs, also where no list of users says so.
const NOBODY: (&str, u32) = ("nobody", 65534);

/// `_LINUX_CAPABILITY_VERSION_3` of `linux/capability.h`: two sets of 32 bits for each kind.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// A user, as the machine knew it when it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As it was asked for.
    pub name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl User {
    /// Finds a user by name, or by number, that the machine need not know.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        // The greatest number stands for no user (setresuid(2)).
        let parsed = || name.parse().ok().filter(|number: &u32| *number != u32::MAX);
        let number = || parsed().or((name == NOBODY.0).then_some(NOBODY.1));
        let known = unistd::User::from_name(name).ok().flatten();
        let known = known.or_else(|| unistd::User::from_uid(number()?.into()).ok().flatten());
        let name = name.to_owned();
        let Some(known) = known else {
            let (uid, gid) = (number()?.into(), number()?.into());
            return Some(Self { name, uid, gid, groups: vec![gid] });
        };
        let groups = CString::new(known.name).ok().and_then(|it| getgrouplist(&it, known.gid).ok());
        let groups = groups.unwrap_or_else(|| vec![known.gid]);
        Some(Self { name, uid: known.uid, gid: known.gid, groups })
    }

    /// Whether this process is root and this user is not.
    #[must_use]
    pub fn is_another(&self) -> bool {
        unistd::geteuid().is_root() && !self.uid.is_root()
    }

    /// Makes the kernel count what this process takes as this user's: it counts by the real user ID. The privileges
    /// of the process stay.
    pub fn count_as_it(&self) -> Result<(), Errno> {
        // The greatest number leaves an ID as it is (setresuid(2)).
        let same = Uid::from_raw(u32::MAX);
        setresuid(self.uid, same, same)
    }

    /// The same in a child process with a time limit: behind a name can be a directory on another machine, and the
    /// caller must not wait for it. `None` also means that it took too long.
    ///
    /// Precondition: as for [`process::fork_child`].
    #[must_use]
    pub fn find_within(name: &str, patience: Duration) -> Option<Self> {
        let text = process::ask_child(patience, || match Self::find(name) {
            Some(user) => user.to_line(),
            None => String::new(),
        });
        match text {
            Ok(line) => Self::from_line(name, &line),
            Err(error) if error.kind() == ErrorKind::TimedOut => None,
            // No process is to be had, which says nothing of the user.
            Err(_) => Self::find(name),
        }
    }

    /// The user that owns nothing, without a lookup.
    #[must_use]
    pub fn nobody() -> Self {
        let (name, number) = NOBODY;
        let (uid, gid) = (number.into(), number.into());
        Self { name: name.to_owned(), uid, gid, groups: vec![gid] }
    }

    fn to_line(&self) -> String {
        let groups = self.groups.iter().copied();
        let numbers = [self.uid.as_raw(), self.gid.as_raw()].into_iter();
        let numbers = numbers.chain(groups.map(Gid::as_raw)).map(|number| number.to_string());
        numbers.collect::<Vec<_>>().join(" ")
    }

    fn from_line(name: &str, line: &str) -> Option<Self> {
        let numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
        let numbers: Vec<u32> = numbers.collect::<Option<_>>()?;
        let [uid, gid, groups @ ..] = &*numbers else { return None };
        let groups = groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        Some(Self { name: name.to_owned(), uid, gid, groups })
    }

    /// Becomes this user, for good, if this process is root's. The process still dies with its parent. A process
    /// without root has no choice, and nothing is done.
    pub fn become_it(&self) -> Result<(), Errno> {
        let root = Uid::from_raw(0);
        if !unistd::geteuid().is_root() || self.uid == root {
            return Ok(());
        }
        // The process that we die with: it lives, or its death would have ended this process.
        let parent = getppid();
        setgroups(&self.groups)?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)?;
        if setresuid(root, root, root).is_ok() {
            return Err(Errno::EPERM);
        }
        // A change of user clears it (prctl(2)).
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH) }
    }
}

/// A group, as the machine knew it when it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// As it was asked for.
    pub name: String,
    pub(super) gid: Gid,
}

impl Group {
    /// Finds a group by name, or by a number that the machine need not know.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let known = unistd::Group::from_name(name).ok().flatten().map(|group| group.gid);
        // The greatest number stands for no group (chown(2)).
        let number = || name.parse().ok().filter(|number: &u32| *number != u32::MAX);
        let gid = known.or_else(|| number().map(Gid::from_raw))?;
        Some(Self { name: name.to_owned(), gid })
    }
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

/// Drops all capabilities, also those of a process that is not root.
pub fn drop_capabilities() -> Result<(), Errno> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    // Effective, permitted and inheritable, twice.
    let none = [0u32; 6];
    // SAFETY: the kernel reads the header and as many words as this version has, and both live through the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn groups_are_found_by_name_and_by_number() {
        assert_eq!(Group::find("root").unwrap().gid.as_raw(), 0);
        assert_eq!(Group::find("4000000001").unwrap().gid.as_raw(), 4_000_000_001);
        for name in ["", "no such group", "-1", "4294967295"] {
            assert_eq!(Group::find(name), None, "{name:?}");
        }
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let root = User::find("root").unwrap();
        assert_eq!((root.uid.as_raw(), root.gid.as_raw()), (0, 0));
        let by_number = User::find("0").unwrap();
        assert_eq!((by_number.uid, by_number.groups), (root.uid, root.groups));
        assert!(!User::find("nobody").unwrap().uid.is_root());
        let unknown = User::find("4000000001").unwrap();
        assert_eq!((unknown.uid.as_raw(), unknown.gid.as_raw()), (4_000_000_001, 4_000_000_001));
        for name in ["", "no such user", "-1", "4294967296"] {
            assert_eq!(User::find(name), None, "{name:?}");
            assert_eq!(User::find_within(name, Duration::from_secs(60)), None, "{name:?}");
        }
        for name in ["root", "0", "nobody", "4000000001"] {
            let within = User::find_within(name, Duration::from_secs(60));
            assert_eq!(within, User::find(name), "{name:?}");
        }
    }
}
