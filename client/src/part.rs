//! A file until it is whole: `.NAME.part` in its folder.
//!
//! Its name begins with a dot, which no offered name does, so no sender can name it. It is locked while a receiver writes
//! it; what a killed receiver left is free, and the next one begins it anew. Invariant: the file that gets its name, or is
//! removed, is the file that this receiver has written.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use nix::unistd::geteuid;
use wire::http::FILE_NAME_BYTES_MAX;

use crate::error::ClientError;

/// The end of the name.
const END: &str = ".part";
/// The times that the file may vanish between two looks at it.
const TRIES: usize = 10;

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    file: File,
    folder: PathBuf,
    to: PathBuf,
    overwrites: bool,
    /// It has its name.
    is_whole: bool,
}

impl Part {
    /// Begins a file. `name` is the name of a file in `folder`.
    pub(crate) fn create(folder: &Path, name: &str, overwrites: bool) -> Result<Self, ClientError> {
        let to = folder.join(name);
        // A link without a target is in the way as well.
        match fs::symlink_metadata(&to) {
            Ok(found) if found.is_dir() => {
                return Err(ClientError::Unfit {
                    path: to,
                    what: "there is a folder of this name",
                });
            }
            Ok(_) if !overwrites => return Err(exists(to)),
            _ => {}
        }
        let path = folder.join(part_name(name));
        let (folder, is_whole) = (folder.to_owned(), false);
        let file = open(&path)?;
        let part = Self { path, file, folder, to, overwrites, is_whole };
        part.file.set_len(0).map_err(|it| part.error(it))?;
        Ok(part)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.file.write_all(bytes).map_err(|it| self.error(it))
    }

    fn error(&self, source: io::Error) -> ClientError {
        ClientError::File { path: self.path.clone(), source }
    }

    /// Gives it its name, once it is on the disk.
    pub(crate) fn finish(mut self) -> Result<PathBuf, ClientError> {
        self.file.sync_all().map_err(|it| self.error(it))?;
        if !is_at(&self.file, &self.path) {
            let what = "somebody has removed this file while it was written";
            return Err(ClientError::Unfit { path: self.path.clone(), what });
        }
        if self.overwrites {
            fs::rename(&self.path, &self.to).map_err(|it| self.error(it))?;
        } else {
            self.rename_beside()?;
        }
        self.is_whole = true;
        // The name as well, where the file system can.
        let _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
        Ok(self.to.clone())
    }

    /// Renames it, and replaces nothing.
    fn rename_beside(&self) -> Result<(), ClientError> {
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(AT_FDCWD, &self.path, AT_FDCWD, &self.to, flags) {
            Ok(()) => Ok(()),
            // The file system or the kernel does not know how.
            Err(Errno::EINVAL | Errno::ENOSYS) if fs::symlink_metadata(&self.to).is_err() => {
                fs::rename(&self.path, &self.to).map_err(|it| self.error(it))
            }
            Err(Errno::EEXIST | Errno::EINVAL | Errno::ENOSYS) => Err(exists(self.to.clone())),
            Err(errno) => Err(self.error(errno.into())),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_whole && is_at(&self.file, &self.path) {
            // What cannot be removed stays, under a name that says what it is.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the file and locks it. Another receiver may finish and rename it between the two, and then there is a new one.
fn open(path: &Path) -> Result<File, ClientError> {
    let of = |source| ClientError::File { path: path.to_owned(), source };
    let unfit = |what| ClientError::Unfit { path: path.to_owned(), what };
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    for _ in 0..TRIES {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).custom_flags(flags.bits());
        let file = options.open(path).map_err(of)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(unfit("another receiver writes this file"));
            }
            Err(TryLockError::Error(error)) => return Err(of(error)),
        }
        let found = file.metadata().map_err(of)?;
        // In a folder of many, somebody may have left it there to read along.
        if !found.is_file() || found.uid() != geteuid().as_raw() || found.nlink() > 1 {
            return Err(unfit("this is in the way, and no receiver of yours has left it"));
        }
        if is_at(&file, path) {
            return Ok(file);
        }
    }
    Err(unfit("others create and remove this file all the time"))
}

/// Whether `path` is the name of `file`.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |it: fs::Metadata| (it.dev(), it.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => place(ours) == place(there),
        _ => false,
    }
}

/// `.NAME.part`, with less of a name that is too long.
fn part_name(name: &str) -> String {
    let mut end = name.len().min(FILE_NAME_BYTES_MAX - END.len() - 1);
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    format!(".{}{END}", name.get(..end).unwrap_or_default())
}

fn exists(path: PathBuf) -> ClientError {
    ClientError::Unfit { path, what: "there is a file of this name already" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_file_that_came_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let part = Part::create(folder, "name", false).unwrap();
        fs::write(folder.join("name"), "theirs").unwrap();
        assert!(matches!(part.finish(), Err(ClientError::Unfit { .. })));
        assert_eq!(fs::read_to_string(folder.join("name")).unwrap(), "theirs");
        let part = Part::create(folder, "name", true).unwrap();
        assert_eq!(part.finish().unwrap(), folder.join("name"));
        assert_eq!(fs::read_to_string(folder.join("name")).unwrap(), "");
        assert_eq!(names(folder), 1, "no part is left");
    }

    #[test]
    fn one_receiver_writes_a_file_at_a_time_and_begins_anew_what_another_left() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let name = "é".repeat(127) + "x";
        let part = Part::create(folder, &name, false).unwrap();
        assert!(matches!(Part::create(folder, &name, false), Err(ClientError::Unfit { .. })));
        drop(part);
        assert_eq!(names(folder), 0);
        fs::write(folder.join(".note.part"), "left behind").unwrap();
        let mut part = Part::create(folder, "note", false).unwrap();
        part.write(b"new").unwrap();
        assert_eq!(fs::read_to_string(part.finish().unwrap()).unwrap(), "new");
    }

    #[test]
    fn what_is_in_the_way_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let refuses = |name: &str| assert!(Part::create(folder, name, true).is_err(), "{name}");
        fs::create_dir(folder.join("folder")).unwrap();
        refuses("folder");
        fs::write(folder.join("outside"), "theirs").unwrap();
        std::os::unix::fs::symlink("outside", folder.join(".link.part")).unwrap();
        refuses("link");
        fs::hard_link(folder.join("outside"), folder.join(".twin.part")).unwrap();
        refuses("twin");
        assert_eq!(fs::read_to_string(folder.join("outside")).unwrap(), "theirs");
        std::os::unix::fs::symlink("nowhere", folder.join("dangling")).unwrap();
        assert!(Part::create(folder, "dangling", false).is_err());
    }

    #[test]
    fn the_part_of_another_receiver_gets_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let first = Part::create(folder, "name", true).unwrap();
        fs::remove_file(folder.join(".name.part")).unwrap();
        let mut second = Part::create(folder, "name", true).unwrap();
        second.write(b"second").unwrap();
        assert!(matches!(first.finish(), Err(ClientError::Unfit { .. })));
        assert_eq!(fs::read_to_string(second.finish().unwrap()).unwrap(), "second");
    }
}
