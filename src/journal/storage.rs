//! The place of a journal's files: a directory, or a storage that a test damages.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::PathBuf;

/// Files by name.
pub(crate) trait Storage: Send + Sync {
    /// Returns the names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Opens a file to read it from its beginning.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;
    /// Creates a file; its name must be new.
    fn create(&self, name: &str) -> io::Result<Box<dyn StoredFile>>;
    /// Gives a file another name, in place of the file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes what a file has survive the loss of power.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Makes names survive the loss of power: those created, changed and removed.
    fn sync_names(&self) -> io::Result<()>;
}

/// A file that is written. Appended bytes survive the end of the process, and after a sync also the
/// loss of power.
pub(crate) trait StoredFile: Send {
    /// Appends everything, or fails after a part of it.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// Returns another handle, to sync the file from another thread.
    fn another(&self) -> io::Result<Box<dyn StoredFile>>;
}

/// A directory.
#[derive(Debug, Clone)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Opens a directory that only the owner may read. It is created if it is not there.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(Self(path))
    }
}

impl Storage for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            // A name that is not text is none of ours, and a directory neither.
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(fs::File::open(self.0.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StoredFile>> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        Ok(Box::new(options.open(self.0.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        fs::File::open(self.0.join(name))?.sync_data()
    }

    fn sync_names(&self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}

impl StoredFile for fs::File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn another(&self) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(self.try_clone()?))
    }
}
