//! Fuzz target: the configuration.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "targets for a fuzzer, not a part of the daemon"
)]

use super::{Config, ConfigError, DEFAULT, Loaded};
use std::path::Path;

/// A file, and after a zero byte the environment, a variable a line. They are a configuration, or the
/// error says where: the line is one of the file's, or the variable is one of those.
pub(crate) fn file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, variables) = text.split_once('\0').unwrap_or((&text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables: Vec<(String, String)> =
        variables.map(|(name, value)| (format!("WEIR_{name}"), value.to_owned())).collect();
    let path = Path::new("weir.toml");
    match Config::parse(Some((path, file)), variables.iter().cloned()) {
        Ok(Loaded { config, .. }) => {
            let limits = config.engine_limits();
            assert!(limits.cache >= 1 << 20);
            // The same text gives the same configuration again.
            assert_eq!(
                Config::parse(Some((path, file)), variables).ok().map(|loaded| loaded.config),
                Some(config)
            );
        }
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error:?}");
            match error {
                ConfigError::File { line, column, .. } => {
                    let text = file.split('\n').nth(line - 1).expect("the line is in the file");
                    assert!((1..=text.chars().count() + 1).contains(&column), "{column}");
                }
                ConfigError::Environment { variable, .. } => {
                    assert!(variables.iter().any(|(name, _)| *name == variable), "{variable}");
                }
                ConfigError::Value { .. } | ConfigError::Unreadable { .. } => {}
            }
        }
    }
}

#[test]
fn the_default_is_an_input() {
    file(DEFAULT.as_bytes());
}
