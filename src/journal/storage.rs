//! The place of a journal's files: a directory, or a storage that a test damages.

use crate::wire::Digest;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Files by name.
pub(crate) trait Storage: Send + Sync {
    /// Returns the names of all files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Returns the names of what is there beside files.
    fn other_names(&self) -> io::Result<Vec<String>>;
    /// Opens a file to read it from its beginning.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;
    /// Creates a file; its name must be new.
    fn create(&self, name: &str) -> io::Result<Box<dyn StoredFile>>;
    /// Gives a file another name, in place of the file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns a number that stays with a file under all its names. A copy of it has another one.
    fn id(&self, name: &str) -> io::Result<u64>;
    /// Returns a number that a file keeps until something happens to it: it is written, moved or linked,
    /// or [touched](Self::touch). Nobody can give it an earlier number back, and a copy has another one.
    fn state(&self, name: &str) -> io::Result<u64>;
    /// Gives a file another [`state`](Self::state), which survives the loss of power.
    fn touch(&self, name: &str) -> io::Result<()>;
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
    /// Removes everything after so many bytes.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;
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
        // A disk that is read-only refuses every change, also one that changes nothing.
        if fs::metadata(&path)?.permissions().mode() & 0o777 != 0o700 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        }
        Ok(Self(path))
    }
}

impl Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn entries(&self, files: bool) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            // A name that is not text is none of ours.
            if entry.file_type()?.is_file() == files {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }
}

// Adds the name of a file to an error.
fn of<T>(name: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
}

// The system may give the number of a file that was removed to the next one. The time when a file was
// created tells them apart, on file systems that have it; nothing can set it.
fn identity(metadata: &fs::Metadata) -> Vec<u8> {
    use std::os::unix::fs::MetadataExt as _;
    let created = metadata.created().ok();
    let created = created.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let created = created.map_or(0, |since| since.as_nanos());
    [&metadata.ino().to_le_bytes()[..], &created.to_le_bytes()].concat()
}

fn number_of(bytes: &[u8]) -> u64 {
    let digest = Digest::of(bytes).0;
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Storage for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        self.entries(true)
    }

    fn other_names(&self) -> io::Result<Vec<String>> {
        self.entries(false)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Named { file: of(name, fs::File::open(self.path(name)))?, name: name.into() }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StoredFile>> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        Ok(Box::new(Named { file: of(name, options.open(self.path(name)))?, name: name.into() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        of(to, fs::rename(self.path(from), self.path(to)))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, path) = (self.path(from), self.path(to));
        // Some file systems have no links. A copy that is cut off by a kill is made again under
        // another name.
        let linked = fs::hard_link(&from, &path).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotFound
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem => Err(error),
            _ => fs::copy(&from, &path).map(drop).inspect_err(|_| {
                // Part of a copy would fill the disk, and its name would not be free.
                let _ = fs::remove_file(&path);
            }),
        });
        of(to, linked)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        of(name, fs::remove_file(self.path(name)))
    }

    fn id(&self, name: &str) -> io::Result<u64> {
        let metadata = of(name, fs::metadata(self.path(name)))?;
        Ok(number_of(&identity(&metadata)))
    }

    fn state(&self, name: &str) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = of(name, fs::metadata(self.path(name)))?;
        // The time of the last change of the file itself. No call sets it.
        let changed = [metadata.ctime(), metadata.ctime_nsec()].map(i64::to_le_bytes);
        Ok(number_of(&[&identity(&metadata)[..], changed.as_flattened()].concat()))
    }

    fn touch(&self, name: &str) -> io::Result<()> {
        // Its owner may do so, whatever the mode.
        let file = of(name, fs::File::open(self.path(name)))?;
        let before = self.state(name)?;
        // Some file systems count in seconds.
        for _ in 0..150 {
            of(name, file.set_modified(SystemTime::now()))?;
            if self.state(name)? != before {
                return of(name, file.sync_all());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        of(name, Err(io::Error::other("its times do not change")))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        of(name, fs::File::open(self.path(name)).and_then(|file| file.sync_data()))
    }

    fn sync_names(&self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}

/// A file whose errors have its name.
struct Named {
    file: fs::File,
    name: String,
}

impl Read for Named {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not wrapped if it is only interrupted: the caller tries again.
        let read = self.file.read(buffer);
        if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
            return read;
        }
        of(&self.name, read)
    }
}

impl StoredFile for Named {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        of(&self.name, self.file.write_all(bytes))
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        of(&self.name, self.file.set_len(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        of(&self.name, self.file.sync_data())
    }

    fn another(&self) -> io::Result<Box<dyn StoredFile>> {
        let file = of(&self.name, self.file.try_clone())?;
        Ok(Box::new(Self { file, name: self.name.clone() }))
    }
}
