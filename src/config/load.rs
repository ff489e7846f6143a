//! Reading a configuration from the file and the environment.

use super::topics::WrongTopic;
use super::words::plain;
use super::{CERT_HASH, Config, ConfigError, WrongValue};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Variables that set flags of the command line, not keys.
const FLAGS: [&str; 8] = [
    "WEIR_CONFIG",
    "WEIR_SERVER",
    "WEIR_TRANSPORT",
    "WEIR_TOKEN",
    "WEIR_TOKEN_FILE",
    "WEIR_STATE",
    "WEIR_SEED",
    CERT_HASH,
];

/// The keys and sections at the top of the file.
pub(super) const TOP: [&str; 11] = [
    "access", "cache", "drain", "http", "journal", "limits", "listen", "log", "ops", "tls",
    "topics",
];

/// A configuration, and where it comes from.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Variables that begin like those of Weir, and name no key. They are ignored.
    pub ignored: Vec<String>,
    /// The places of its keys.
    pub places: Places,
}

/// The places at which the keys of a configuration are set.
#[derive(Debug)]
pub struct Places {
    file: PathBuf,
    sources: Sources,
}

impl Places {
    /// Returns an error about a key, with its place. It is for a value that turns out to be wrong later:
    /// it names a file that cannot be read, for example.
    pub fn error(&self, key: &'static str, reason: String) -> ConfigError {
        match self.sources.get(key) {
            Some(Source::File(place)) => place.error(&self.file, key, reason),
            Some(Source::Variable(variable)) => {
                let (variable, reason) = (variable.clone(), format!("{key}: {reason}"));
                ConfigError::Environment { variable, reason }
            }
            None => ConfigError::Value { key, reason },
        }
    }

    fn error_of_topic(&self, WrongTopic { index, key, reason }: WrongTopic) -> ConfigError {
        let rule = format!("topics[{index}]");
        let key = format!("{rule}.{key}");
        // The variable replaces the list of the file.
        if let Some(Source::Variable(variable)) = self.sources.get("topics") {
            let (variable, reason) = (variable.clone(), format!("{key}: {reason}"));
            return ConfigError::Environment { variable, reason };
        }
        match self.sources.get(&key).or_else(|| self.sources.get(&rule)) {
            Some(Source::File(place)) => place.error(&self.file, &key, reason),
            _ => ConfigError::Value { key: "topics", reason: format!("{key}: {reason}") },
        }
    }
}

// The place at which a value was set.
#[derive(Debug)]
enum Source {
    File(Place),
    Variable(String),
}

// A place in the file: the line, and the column in characters, both from 1.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: usize,
    column: usize,
}

impl Place {
    fn of(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line, column }
    }

    fn error(self, path: &Path, key: &str, reason: String) -> ConfigError {
        let Self { line, column } = self;
        let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
        ConfigError::File { path: path.into(), line, column, key, reason }
    }
}

// The keys that are set, with dots between the parts.
type Sources = HashMap<String, Source>;

impl Config {
    /// Reads the file, if one is given, and then the variables of the environment.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Ok(Self::load_with_places(file, environment)?.config)
    }

    /// The same. Also returns where its keys are set.
    pub fn load_with_places(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let text = file.map(|path| Ok((path, read_text(path)?))).transpose()?;
        let file = text.as_ref().map(|(path, text)| (*path, &**text));
        Self::parse(file, environment)
    }

    /// Parses the text of a file, if one is given, and then the variables of the environment.
    pub(super) fn parse(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let (mut table, mut sources) = match file {
            Some((path, text)) => read(path, text)?,
            None => Default::default(),
        };
        let file = file.map(|(path, _)| path);
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
        others.sort();
        // The file and each variable were checked alone, so that this finds no further error.
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            ConfigError::Environment { variable: "WEIR_…".into(), reason: one_line(&error) }
        })?;
        let places = Places { file: file.map(PathBuf::from).unwrap_or_default(), sources };
        config.check_topics().map_err(|wrong| places.error_of_topic(wrong))?;
        // The first of the keys that is set is the one to change.
        config.check().map_err(|WrongValue { keys, reason }| {
            let set = keys.iter().find(|key| places.sources.contains_key(**key));
            places.error(set.or(keys.first()).copied().unwrap_or_default(), reason)
        })?;
        Ok(Loaded { config, ignored: others, places })
    }
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.into(), error };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let valid = String::from_utf8_lossy(&error.as_bytes()[..at]);
        Place::of(&valid, at).error(path, "", "it is not UTF-8 text from here on".into())
    })
}

fn read(path: &Path, text: &str) -> Result<(toml::Table, Sources), ConfigError> {
    let (document, _) = DeTable::parse_recoverable(text);
    let mut keys = Vec::new();
    collect(document.get_ref(), "", &mut keys);
    let wrong = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let key = keys.iter().find(|found| found.span.contains(&at)).map(|found| found.key.clone());
        let key = key.or_else(|| key_of_line(text, at)).unwrap_or_default();
        Place::of(text, at).error(path, &key, one_line(&error))
    };
    toml::from_str::<Config>(text).map_err(wrong)?;
    let table = toml::from_str(text).map_err(wrong)?;
    let sources =
        keys.into_iter().map(|found| (found.key, Source::File(Place::of(text, found.value))));
    Ok((table, sources.collect()))
}

// A key of the file, the bytes from it to its value's end, and the first byte of its value. For a
// section it is the first of its name.
struct Found {
    key: String,
    span: Range<usize>,
    value: usize,
}

// Collects the keys with values. The name of a section is a key by itself.
fn collect(table: &DeTable<'_>, section: &str, keys: &mut Vec<Found>) {
    for (name, value) in table {
        let name_shown = written(name.get_ref());
        let key = match section {
            "" => name_shown.into_owned(),
            section => format!("{section}.{name_shown}"),
        };
        match value.get_ref().as_table() {
            Some(inner) => {
                collect(inner, &key, keys);
                keys.push(Found { key, value: name.span().start, span: name.span() });
            }
            None => {
                for (index, item) in value.get_ref().as_array().into_iter().flatten().enumerate() {
                    if let Some(inner) = item.get_ref().as_table() {
                        let key = format!("{key}[{index}]");
                        collect(inner, &key, keys);
                        keys.push(Found { key, value: item.span().start, span: item.span() });
                    }
                }
                let span = name.span().start..value.span().end;
                keys.push(Found { key, value: value.span().start, span });
            }
        }
    }
}

// Returns a key as an error names it. A key in quotes may have line ends and control characters.
fn written(key: &str) -> Cow<'_, str> {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.into() } else { format!("{key:?}").into() }
}

// Control characters of the file are for no terminal.
fn shown(c: char) -> char {
    if c.is_control() { '·' } else { c }
}

// Returns the key before the `=` of a line that cannot be parsed, with its section.
fn key_of_line(text: &str, at: usize) -> Option<String> {
    let number = Place::of(text, at).line;
    let (name, _) = text.lines().nth(number - 1)?.split_once('=')?;
    let section =
        text.lines().take(number).map(str::trim).filter(|line| line.starts_with('[')).last();
    let section = section.map(|section| section.trim_matches(['[', ']']));
    let key =
        section.map_or_else(|| name.trim().into(), |section| format!("{section}.{}", name.trim()));
    Some(key.chars().map(shown).collect())
}

fn one_line(error: &toml::de::Error) -> String {
    let line = plain(error.message().trim()).replace('\n', "; ");
    line.chars().map(shown).collect()
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
