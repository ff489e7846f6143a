//! Reading a configuration from the file and the environment.

use super::{CERT_HASH, Config, ConfigError, WrongValue};
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Variables that set flags of the command line, not keys.
const FLAGS: [&str; 7] = [
    "WEIR_CONFIG",
    "WEIR_SERVER",
    "WEIR_TRANSPORT",
    "WEIR_TOKEN",
    "WEIR_STATE",
    "WEIR_SEED",
    CERT_HASH,
];

/// The keys and sections at the top of the file.
pub(super) const TOP: [&str; 6] = ["cache", "drain", "http", "journal", "limits", "listen"];

// The place at which a value was set.
enum Source {
    // The line of the file, from 1.
    Line(usize),
    Variable(String),
}

// The keys that are set, with dots between the parts.
type Sources = HashMap<String, Source>;

impl Config {
    /// Reads the file, if one is given, and then the variables of the environment.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (mut table, mut sources) = match file {
            Some(path) => read(path)?,
            None => Default::default(),
        };
        let mut others = Vec::new();
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix("WEIR_") else { continue };
            // Variables that begin like a key have to name one. Others may belong to other programs:
            // for a service named weir, Kubernetes sets `WEIR_PORT` and more in every container.
            let top = name.split("__").next().unwrap_or_default().to_lowercase();
            if TOP.contains(&&*top) {
                let key = overlay(&mut table, &variable, &value)?;
                sources.insert(key, Source::Variable(variable));
            } else if !FLAGS.contains(&&*variable) {
                others.push(variable);
            }
        }
        if !others.is_empty() {
            others.sort();
            let variables = others.join(" ");
            tracing::warn!(variables, "environment variables that name no key are ignored");
        }
        // The file and each variable were checked alone, so that this finds no further error.
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            ConfigError::Environment { variable: "WEIR_…".into(), reason: one_line(&error) }
        })?;
        config.check().map_err(|wrong| located(wrong, file, sources))?;
        Ok(config)
    }
}

// Says where the wrong value was set.
fn located(wrong: WrongValue, file: Option<&Path>, mut sources: Sources) -> ConfigError {
    let WrongValue { keys, reason } = wrong;
    for key in keys {
        match sources.remove(*key) {
            Some(Source::Line(line)) => {
                let path = file.map(PathBuf::from).unwrap_or_default();
                return ConfigError::File { path, line, key: format!("{key}: "), reason };
            }
            Some(Source::Variable(variable)) => {
                return ConfigError::Environment { variable, reason: format!("{key}: {reason}") };
            }
            None => {}
        }
    }
    ConfigError::Value { key: keys.first().copied().unwrap_or_default(), reason }
}

fn read(path: &Path) -> Result<(toml::Table, Sources), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.into(), error })?;
    let (document, _) = DeTable::parse_recoverable(&text);
    let mut keys = Vec::new();
    collect(document.get_ref(), "", &mut keys);
    let wrong = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let key = keys.iter().find(|(_, span)| span.contains(&at)).map(|(key, _)| key.clone());
        let key = key.or_else(|| key_of_line(&text, at));
        let key = key.map_or_else(String::new, |key| format!("{key}: "));
        let (path, reason) = (path.into(), one_line(&error));
        ConfigError::File { path, line: line(&text, at), key, reason }
    };
    toml::from_str::<Config>(&text).map_err(wrong)?;
    let table = toml::from_str(&text).map_err(wrong)?;
    let lines = keys.iter().map(|(key, span)| (key.clone(), Source::Line(line(&text, span.start))));
    Ok((table, lines.collect()))
}

// Collects the keys with values, and where they stand in the file, from the key to the value's end.
// The name of a section is a key by itself.
fn collect(table: &DeTable<'_>, section: &str, keys: &mut Vec<(String, Range<usize>)>) {
    for (name, value) in table {
        let key = match section {
            "" => name.get_ref().to_string(),
            section => format!("{section}.{}", name.get_ref()),
        };
        match value.get_ref().as_table() {
            Some(inner) => {
                collect(inner, &key, keys);
                keys.push((key, name.span()));
            }
            None => keys.push((key, name.span().start..value.span().end)),
        }
    }
}

// Returns the key before the `=` of a line that cannot be parsed, with its section.
fn key_of_line(text: &str, at: usize) -> Option<String> {
    let number = line(text, at);
    let (name, _) = text.lines().nth(number - 1)?.split_once('=')?;
    let section =
        text.lines().take(number).map(str::trim).filter(|line| line.starts_with('[')).last();
    let section = section.map(|section| section.trim_matches(['[', ']']));
    Some(section.map_or_else(|| name.trim().into(), |section| format!("{section}.{}", name.trim())))
}

// Returns the line at a byte of the file, from 1.
fn line(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count() + 1
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().trim().replace('\n', "; ")
}

// Sets the key of a variable such as WEIR_CACHE__BYTES=1GiB, with two underscores for a dot. Returns
// the key.
fn overlay(table: &mut toml::Table, variable: &str, value: &str) -> Result<String, ConfigError> {
    let wrong = |reason: String| ConfigError::Environment { variable: variable.into(), reason };
    let name = variable.trim_start_matches("WEIR_").to_lowercase();
    let key = name.replace("__", ".");
    let mut path: Vec<&str> = name.split("__").collect();
    let last = path.pop().unwrap_or_default().to_owned();
    let mut alone = toml::Table::new();
    for table in [&mut *table, &mut alone] {
        let mut at = table;
        for part in &path {
            let inner = at.entry(*part).or_insert_with(|| toml::Table::new().into());
            at = inner.as_table_mut().ok_or_else(|| wrong(format!("{part} is not a section")))?;
        }
        at.insert(last.clone(), variable_value(value));
    }
    // The variable is checked alone, so that the error is about this variable.
    let checked: Result<Config, toml::de::Error> = alone.try_into();
    checked.map_err(|error| wrong(format!("{key}: {}", one_line(&error))))?;
    Ok(key)
}

// Parses a number, or a list as in the file. Everything else is text.
fn variable_value(text: &str) -> toml::Value {
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    let list = || format!("list = {text}").parse::<toml::Table>().ok()?.remove("list");
    text.starts_with('[').then(list).flatten().unwrap_or_else(|| text.into())
}
