//! Errors of a configuration. Each names the file, the line, the column and the key, or the variable.

use std::path::PathBuf;

/// An error of the configuration, and its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The file is malformed, or a value in it is not allowed.
    #[error("{}:{line}:{column}: {key}{reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, in characters from 1.
        column: usize,
        /// The key and a colon, if the error concerns one key.
        key: String,
        /// The reason in words.
        reason: String,
    },
    /// A variable of the environment has no key, or a value that is not allowed.
    #[error("environment variable {variable}: {reason}")]
    Environment {
        /// The variable's name.
        variable: String,
        /// The reason in words.
        reason: String,
    },
    /// A default value is not allowed.
    #[error("{key}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// The reason in words.
        reason: String,
    },
}
