//! Files that are read again when they change.
//!
//! The files are looked at now and then, because tools replace them in many ways: in place, by a
//! rename, or by another target of a symbolic link. A look is a system call for each file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Distinguishes versions of a file: device, inode, size, and the times of the last change of its
/// content and of its metadata, nanoseconds. `None` without a file.
type Stamp = Option<(u64, u64, u64, i128, i128)>;

/// Files that belong together.
#[derive(Debug)]
pub(crate) struct Watched<const N: usize> {
    paths: [PathBuf; N],
    // The version that was read last.
    read: [Stamp; N],
    // A version that could not be used, and whether that was reported.
    broken: Option<([Stamp; N], bool)>,
}

/// The result of a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The files are those that were read, or their fault was reported.
    Unchanged,
    /// They are to be read. A fault is not reported yet, because a tool may have replaced only one of
    /// the files so far.
    Read,
    /// They are to be read once more, and a fault is to be reported.
    ReadAndReport,
}

impl<const N: usize> Watched<N> {
    /// Watches files that are read now.
    pub(crate) fn new(paths: [PathBuf; N]) -> Self {
        let read = stamps(&paths);
        Self { paths, read, broken: None }
    }

    pub(crate) fn paths(&self) -> &[PathBuf; N] {
        &self.paths
    }

    /// Looks at the files. The caller reads them afterwards if it is asked to, and tells the result.
    /// If a file changes meanwhile, the next look finds that.
    pub(crate) fn look(&mut self) -> (Look, Seen<N>) {
        let now = stamps(&self.paths);
        let look = match &self.broken {
            _ if now == self.read => Look::Unchanged,
            Some((broken, true)) if *broken == now => Look::Unchanged,
            Some((broken, false)) if *broken == now => Look::ReadAndReport,
            _ => Look::Read,
        };
        if now == self.read {
            self.broken = None;
        }
        (look, Seen(now))
    }

    /// Tells that what was seen was read.
    pub(crate) fn was_read(&mut self, seen: Seen<N>) {
        self.read = seen.0;
        self.broken = None;
    }

    /// Tells that what was seen cannot be used, and whether that was reported.
    pub(crate) fn is_broken(&mut self, seen: Seen<N>, reported: bool) {
        self.broken = Some((seen.0, reported));
    }
}

/// The version of the files at a look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<const N: usize>([Stamp; N]);

fn stamps<const N: usize>(paths: &[PathBuf; N]) -> [Stamp; N] {
    std::array::from_fn(|index| {
        let found = fs::metadata(&paths[index]).ok()?;
        let time =
            |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let modified = time(found.mtime(), found.mtime_nsec());
        let changed = time(found.ctime(), found.ctime_nsec());
        Some((found.dev(), found.ino(), found.size(), modified, changed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_once_and_a_fault_is_reported_once() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| directory.path().join(name));
        for path in &paths {
            fs::write(path, "one").unwrap();
        }
        let mut watched = Watched::new(paths.clone());
        assert_eq!(watched.look().0, Look::Unchanged);

        // One of the two was replaced, and then the other.
        fs::write(&paths[0], "number two").unwrap();
        let (look, seen) = watched.look();
        assert_eq!(look, Look::Read);
        watched.is_broken(seen, false);
        fs::write(&paths[1], "number two").unwrap();
        let (look, seen) = watched.look();
        assert_eq!(look, Look::Read, "the second half: no fault yet");
        watched.was_read(seen);
        assert_eq!(watched.look().0, Look::Unchanged);

        // It stays broken.
        fs::remove_file(&paths[0]).unwrap();
        let (look, seen) = watched.look();
        assert_eq!(look, Look::Read);
        watched.is_broken(seen, false);
        let (look, seen) = watched.look();
        assert_eq!(look, Look::ReadAndReport);
        watched.is_broken(seen, true);
        assert_eq!(watched.look().0, Look::Unchanged);
        fs::write(&paths[0], "three").unwrap();
        assert_eq!(watched.look().0, Look::Read);
    }

    #[test]
    fn another_target_of_a_link_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let [link, one, two] = ["link", "one", "two"].map(|name| directory.path().join(name));
        for file in [&one, &two] {
            fs::write(file, "same").unwrap();
        }
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let mut watched = Watched::new([link.clone()]);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&two, &link).unwrap();
        assert_eq!(watched.look().0, Look::Read);
    }
}
