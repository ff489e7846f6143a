//! Files that are read at the start and at each reload.

use std::path::Path;
use std::{fs, io};

/// Opens a file to read it. A pipe without a writer would block for ever, and with it every later reload.
pub(crate) fn open(path: &Path) -> io::Result<fs::File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    fs::File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Reading it blocked for ever, and with it every later reload.
    #[test]
    fn a_pipe_without_a_writer_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("regular file"), "{error}");
        assert!(open(directory.path()).is_err());
        fs::write(directory.path().join("file"), "x").unwrap();
        open(&directory.path().join("file")).unwrap();
    }
}
