//! The memory limit of the control groups that this process is in: of version 2, of version 1, or of both, where a system
//! has the memory controller in one and other things in the other. Read by `super::host`.
//!
//! Invariant: pure functions evaluate the kernel's files, and a missing file means no limit, never an error.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The place of the groups if no `/proc` tells: a container sees its own group at the top.
const USUAL_GROUPS: [(&str, Version); 2] =
    [("/sys/fs/cgroup", Version::Two), ("/sys/fs/cgroup/memory", Version::One)];

/// The tightest limit in bytes. `None`: there is none, or it cannot be found.
pub(super) fn memory_limit() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup"));
    let mounts = read(Path::new("/proc/self/mountinfo"));
    match (groups, mounts) {
        (Some(groups), Some(mounts)) => tightest(&groups, &mounts, &read),
        _ => {
            let usual = USUAL_GROUPS.map(|(path, version)| version.limit(Path::new(path), &read));
            usual.into_iter().flatten().min()
        }
    }
}

/// The tightest limit, by what `/proc/self/cgroup` and `/proc/self/mountinfo` say. `read` reads a file.
fn tightest(groups: &str, mounts: &str, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mounts = mounts.lines().filter_map(Mount::parse);
    let limits = mounts.filter_map(|mount| {
        let group = mount.version.group(groups)?;
        let directory = mount.directory_of(group)?;
        // A group's limit binds the groups below it.
        let up = directory.ancestors().take_while(|it| it.starts_with(&mount.point));
        up.filter_map(|it| mount.version.limit(it, read)).min()
    });
    limits.min()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The path of the group with the memory, from lines of `ID:CONTROLLERS:PATH` (cgroups(7)).
    fn group(self, groups: &str) -> Option<&str> {
        groups.lines().find_map(|line| {
            let (id, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_it = match self {
                Self::One => controllers.split(',').any(|it| it == "memory"),
                Self::Two => id == "0" && controllers.is_empty(),
            };
            is_it.then_some(path)
        })
    }

    /// The limit that the group in `directory` sets or, by version 1, inherits from groups that are not visible here.
    fn limit(self, directory: &Path, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
        // "max" stands for none and is no number; version 1 has a number greater than any memory.
        let number = |file| read(&directory.join(file))?.trim_end().parse::<u64>().ok();
        match self {
            Self::Two => number("memory.max"),
            Self::One => {
                let stat = read(&directory.join("memory.stat")).unwrap_or_default();
                let all = stat.lines().find_map(|line| {
                    line.strip_prefix("hierarchical_memory_limit ")?.parse::<u64>().ok()
                });
                all.into_iter().chain(number("memory.limit_in_bytes")).min()
            }
        }
    }
}

/// Where groups with memory are mounted.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// The group that is seen there.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Fields of a line `ID PARENT DEVICE ROOT POINT OPTIONS [OPTIONAL...] - TYPE SOURCE OPTIONS`
    /// (proc_pid_mountinfo(5)).
    fn parse(line: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let version = match kind.next()? {
            "cgroup2" => Version::Two,
            "cgroup" if kind.nth(1)?.split(',').any(|it| it == "memory") => Version::One,
            _ => return None,
        };
        let mut place = place.split(' ').skip(3);
        let (root, point) = (unescape(place.next()?), unescape(place.next()?));
        Some(Self { version, root, point })
    }

    /// The directory of `group`, or of its nearest ancestor that is visible here.
    fn directory_of(&self, group: &str) -> Option<PathBuf> {
        // The kernel writes groups outside of our namespace with `/..`: no mount shows them.
        if Path::new(group).components().any(|step| step.as_os_str() == "..") {
            return None;
        }
        // A container may see a mount of its own group, and a path that is the host's.
        let below = Path::new(group).strip_prefix(&self.root).unwrap_or(Path::new(""));
        Some(self.point.join(below))
    }
}

/// Spaces, tabs, line ends and backslashes stand in `mountinfo` as `\` and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|it| u8::from_str_radix(str::from_utf8(it).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = behind.get(if code.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;

    const GIB: u64 = 1 << 30;
    /// Version 1 writes "no limit" as the largest number of whole pages.
    const UNLIMITED: &str = "9223372036854771712\n";

    fn limit(groups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<u64> {
        let files: HashMap<&Path, &str> =
            files.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
        tightest(groups, mounts, &|path| files.get(path).map(|text| (*text).to_owned()))
    }

    /// As systemd has it, without any version 1.
    const UNIFIED: &str = "\
        24 30 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw\n\
        35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn a_service_of_version_2() {
        let groups = "0::/system.slice/relay.service\n";
        let own = ("/sys/fs/cgroup/system.slice/relay.service/memory.max", "max\n");
        assert_eq!(limit(groups, UNIFIED, &[own]), None);
        let slice = ("/sys/fs/cgroup/system.slice/memory.max", "536870912\n");
        assert_eq!(limit(groups, UNIFIED, &[own, slice]), Some(GIB / 2), "a parent binds");
        let own = (own.0, "104857600\n");
        assert_eq!(limit(groups, UNIFIED, &[own, slice]), Some(104_857_600));
    }

    #[test]
    fn a_container_of_version_2_is_the_top_of_what_it_sees() {
        let mounts =
            "1571 1570 0:30 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw\n";
        let files = [("/sys/fs/cgroup/memory.max", "268435456\n")];
        assert_eq!(limit("0::/\n", mounts, &files), Some(GIB / 4));
        assert_eq!(limit("0::/../../outside\n", mounts, &files), None, "it is not in what is seen");
    }

    #[test]
    fn a_container_of_version_1_has_the_hosts_path_and_a_mount_of_its_own_group() {
        let groups = "\
            12:pids:/docker/0123abcd\n\
            5:memory:/docker/0123abcd\n\
            4:cpu,cpuacct:/docker/0123abcd\n\
            1:name=systemd:/docker/0123abcd\n\
            0::/system.slice/containerd.service\n";
        let mounts = "\
            729 728 0:28 /docker/0123abcd /sys/fs/cgroup/systemd ro,nosuid - cgroup cgroup rw,xattr,name=systemd\n\
            731 728 0:32 /docker/0123abcd /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:14 - cgroup cgroup rw,cpu,cpuacct\n\
            735 728 0:36 /docker/0123abcd /sys/fs/cgroup/memory ro,nosuid master:18 - cgroup cgroup rw,memory\n";
        let files = [
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
            (
                "/sys/fs/cgroup/memory/memory.stat",
                "cache 0\nhierarchical_memory_limit 268435456\nhierarchical_memsw_limit 1\n",
            ),
        ];
        assert_eq!(limit(groups, mounts, &files), Some(GIB / 4));
        // The limit of its parents, which it sees only there.
        let files = [
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED),
            ("/sys/fs/cgroup/memory/memory.stat", "hierarchical_memory_limit 134217728\n"),
        ];
        assert_eq!(limit(groups, mounts, &files), Some(GIB / 8));
        // The files of another container, mounted as well by somebody, count for nothing worse than themselves.
        assert_eq!(limit(groups, mounts, &[]), None);
    }

    #[test]
    fn a_service_of_version_1_beside_an_idle_version_2() {
        let groups = "\
            11:memory:/system.slice/relay.service\n\
            1:name=systemd:/system.slice/relay.service\n\
            0::/system.slice/relay.service\n";
        let mounts = "\
            26 25 0:23 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755\n\
            27 26 0:24 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
            34 26 0:31 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec shared:17 - cgroup cgroup rw,memory\n";
        let directory = "/sys/fs/cgroup/memory/system.slice";
        let own = format!("{directory}/relay.service/memory.limit_in_bytes");
        let slice = format!("{directory}/memory.limit_in_bytes");
        let top = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED);
        let files = [(own.as_str(), UNLIMITED), (slice.as_str(), "536870912\n"), top];
        assert_eq!(limit(groups, mounts, &files), Some(GIB / 2));
        let files = [(own.as_str(), "67108864\n"), (slice.as_str(), "536870912\n"), top];
        assert_eq!(limit(groups, mounts, &files), Some(GIB / 16));
        let unlimited = limit(groups, mounts, &[top]).unwrap();
        assert!(unlimited > 1 << 60, "greater than any memory");
    }

    #[test]
    fn a_mount_elsewhere_and_with_odd_names_is_found() {
        let groups = "3:memory,hugetlb:/my group\n";
        let mounts = "40 1 0:40 / /srv/odd\\040place\\134 rw - cgroup none rw,hugetlb,memory\n";
        let files = [("/srv/odd place\\/my group/memory.limit_in_bytes", "1048576\n")];
        assert_eq!(limit(groups, mounts, &files), Some(1 << 20));
        assert_eq!(unescape("a\\04"), Path::new("a\\04"));
        assert_eq!(unescape("a\\999\\"), Path::new("a\\999\\"));
    }

    #[test]
    fn what_makes_no_sense_is_no_limit() {
        for (groups, mounts) in
            [("", ""), ("nonsense", "nonsense"), ("0:", "1 2 3 - cgroup2"), ("::", "-")]
        {
            assert_eq!(limit(groups, mounts, &[("/memory.max", "1\n")]), None);
        }
        assert_eq!(limit("0::/\n", UNIFIED, &[("/sys/fs/cgroup/memory.max", "-1\n")]), None);
    }
}
