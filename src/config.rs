//! `weir.toml`: flag > environment > file > default. Keys that are not known are refused, and an
//! error names file, line and key.

use crate::access::origin::Origins;
use crate::engine::Limits;
use bytesize::ByteSize;
use serde::Deserialize;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The file that is shipped, and printed by `weir default-config`: every key at its default.
pub const DEFAULT: &str = include_str!("../systemd/weir.toml");

/// The daemon's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Address for raw QUIC and WebTransport (UDP), HTTPS and WebSocket (TCP). Default
    /// `[::]:4433`, which takes IPv4 too.
    pub listen: SocketAddr,
    /// `[http]`.
    pub http: HttpConfig,
    /// `[cache]`.
    pub cache: CacheConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
}

/// `[http]`: the TCP side.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Address for HTTP and WebSocket without TLS. Default `127.0.0.1:8080`.
    pub listen: Plain,
    /// Origins of other hosts whose pages may connect. Default none.
    pub origins: Vec<String>,
    /// The names that this daemon is reached by, beside its addresses and localhost; under others
    /// it answers nobody. Default none.
    pub names: Vec<String>,
}

/// An address, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Plain(pub Option<SocketAddr>);

impl std::str::FromStr for Plain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address = text.parse().map_err(|_| {
            format!("{text:?} is neither an address such as 127.0.0.1:8080 nor off")
        })?;
        Ok(Self(Some(address)))
    }
}

impl TryFrom<String> for Plain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        let listen = Plain(Some((Ipv4Addr::LOCALHOST, HTTP_PORT).into()));
        Self { listen, origins: Vec::new(), names: Vec::new() }
    }
}

/// Port of HTTP without TLS.
const HTTP_PORT: u16 = 8080;

/// `[cache]`: what the daemon keeps.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheConfig {
    /// Bytes for payloads, their logs and indexes, and counts. Default 256 MiB.
    pub bytes: ByteSize,
}

/// `[limits]`: what a peer may do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Largest payload. Default 16 MiB.
    pub payload: ByteSize,
    /// Most sessions at once; further ones are refused. Default 65,536.
    pub sessions: usize,
    /// Most topics. Default 65,536.
    pub topics: usize,
    /// Most subscriptions in one session. Default 256.
    pub subscriptions: u32,
    /// Producers that a topic remembers. Default 1,024.
    pub producers: usize,
    /// How far a producer's numbers may run ahead. Default 1,024.
    pub window: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv6Addr::UNSPECIFIED, crate::wire::PORT).into(),
            http: HttpConfig::default(),
            cache: CacheConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { bytes: ByteSize(Limits::default().cache as u64) }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let Limits { payload, topics, subscriptions, producers, window, .. } = Limits::default();
        let payload = ByteSize(payload as u64);
        Self {
            payload,
            sessions: crate::daemon::SESSIONS,
            topics,
            subscriptions,
            producers,
            window,
        }
    }
}

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A line of the file.
    #[error("{}:{line}: {key}{reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key with a colon, if it is about one.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable of the environment.
    #[error("environment variable {variable}: {reason}")]
    Environment {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value that cannot be, by itself or beside another.
    #[error("{key}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

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

/// What stands at the top of the file: keys, and sections.
const TOP: [&str; 4] = ["cache", "http", "limits", "listen"];

/// Hashes of certificates for the verbs that connect, where no flag says what to trust.
pub(crate) const CERT_HASH: &str = "WEIR_CERT_HASH";

impl Config {
    /// Reads the file, if one is given, and then the variables of the environment.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some(path) => read(path)?,
            None => toml::Table::new(),
        };
        let mut others = Vec::new();
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix("WEIR_") else { continue };
            // What may be meant for a daemon is refused where it is wrong. The rest is others': a
            // cluster tells each program of the services there are, in `WEIR_PORT` and more if one
            // is named weir.
            let top = name.split("__").next().unwrap_or_default().to_lowercase();
            if TOP.contains(&&*top) {
                overlay(&mut table, &variable, &value)?;
            } else if !FLAGS.contains(&&*variable) {
                others.push(variable);
            }
        }
        if !others.is_empty() {
            others.sort();
            let variables = others.join(" ");
            tracing::warn!(variables, "environment variables that name no key are ignored");
        }
        // The file by itself was checked; what is wrong here would have been named there.
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            ConfigError::Environment { variable: "WEIR_…".into(), reason: one_line(&error) }
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, reason: String| Err(ConfigError::Value { key, reason });
        let limits = &self.limits;
        if self.cache.bytes < ByteSize::mib(1) {
            return wrong("cache.bytes", format!("{} is below 1MiB", self.cache.bytes));
        }
        if let Err(error) = Origins::parse(&self.http.origins) {
            return wrong("http.origins", error.to_string());
        }
        if let Err(error) = Origins::default().named(&self.http.names) {
            return wrong("http.names", error.to_string());
        }
        if limits.payload.0 == 0 || limits.payload.0 > self.cache.bytes.0 / 4 {
            return wrong(
                "limits.payload",
                format!(
                    "{} is not between 1 byte and {}, a quarter of cache.bytes: set it too where the \
                     cache is to be small",
                    limits.payload,
                    ByteSize(self.cache.bytes.0 / 4)
                ),
            );
        }
        for (key, value, least) in [
            ("limits.sessions", limits.sessions, 1),
            ("limits.topics", limits.topics, 1),
            ("limits.producers", limits.producers, 1),
            ("limits.window", limits.window as usize, 64),
            ("limits.subscriptions", limits.subscriptions as usize, 1),
        ] {
            if value < least {
                return wrong(key, format!("{value} is below {least}"));
            }
        }
        Ok(())
    }

    /// As the engine wants it.
    pub fn engine_limits(&self) -> Limits {
        Limits {
            cache: self.cache.bytes.0 as usize,
            payload: self.limits.payload.0 as usize,
            topics: self.limits.topics,
            producers: self.limits.producers,
            window: self.limits.window,
            subscriptions: self.limits.subscriptions,
        }
    }
}

fn read(path: &Path) -> Result<toml::Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.into(), error })?;
    let located = |error: &toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let (line, key) = locate(&text, start);
        ConfigError::File { path: path.into(), line, key, reason: one_line(error) }
    };
    toml::from_str::<Config>(&text).map_err(|error| located(&error))?;
    toml::from_str(&text).map_err(|error| located(&error))
}

// The line at a byte of the file, and the key that stands there.
fn locate(text: &str, at: usize) -> (usize, String) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count();
    let name = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let here = text.lines().nth(line).unwrap_or_default();
    let section = text.lines().take(line).filter(|line| line.starts_with('[')).last();
    let section = section.map(|section| section.trim().trim_matches(['[', ']']));
    let key = match (section, here.contains('=')) {
        (Some(section), true) => format!("{section}.{}: ", name(here)),
        (None, true) => format!("{}: ", name(here)),
        (_, false) => String::new(),
    };
    (line + 1, key)
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().trim().replace('\n', "; ")
}

// WEIR_CACHE__BYTES=1GiB: two underscores for a dot.
fn overlay(table: &mut toml::Table, variable: &str, value: &str) -> Result<(), ConfigError> {
    let wrong = |reason: String| ConfigError::Environment { variable: variable.into(), reason };
    let key = variable.trim_start_matches("WEIR_").to_lowercase();
    let mut path: Vec<&str> = key.split("__").collect();
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
    // By itself, so that the error is about this variable.
    let checked: Result<Config, toml::de::Error> = alone.try_into();
    checked
        .map(|_| ())
        .map_err(|error| wrong(format!("{}: {}", key.replace("__", "."), one_line(&error))))
}

// A number, a list as it would stand in the file, or text.
fn variable_value(text: &str) -> toml::Value {
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    let list = || format!("list = {text}").parse::<toml::Table>().ok()?.remove("list");
    text.starts_with('[').then(list).flatten().unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weir.toml");
        std::fs::write(&path, text).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let loaded = Config::load(Some(&path), variables);
        loaded.map_err(|error| {
            error.to_string().replace(&format!("{}/", directory.path().display()), "")
        })
    }

    #[test]
    fn the_shipped_file_says_the_defaults() {
        assert_eq!(load(DEFAULT, &[]), Ok(Config::default()));
        assert_eq!(load("", &[]), Ok(Config::default()));
        // Every key stands in it.
        let keys = DEFAULT.lines().filter(|line| line.contains(" = ")).count();
        assert_eq!(keys, 11);
        let table: toml::Table = DEFAULT.parse().unwrap();
        assert_eq!(table.keys().map(String::as_str).collect::<Vec<_>>(), TOP);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let config = load("[cache]\nbytes = \"64MiB\"", &[("WEIR_CACHE__BYTES", "1GiB")]).unwrap();
        assert_eq!(config.cache.bytes, ByteSize::gib(1));
        let others =
            [("OTHER", "x"), ("WEIR_PORT", "tcp://10.0.0.1:4433"), ("WEIR_CASHE__BYTES", "1")];
        let config = load("", &[&[("WEIR_LIMITS__TOPICS", "7")], &others[..]].concat()).unwrap();
        assert_eq!(config.limits.topics, 7);
        let origins = r#"["https://a.example", "http://b.example:3000"]"#;
        let variables = [
            ("WEIR_HTTP__ORIGINS", origins),
            ("WEIR_HTTP__LISTEN", "off"),
            ("WEIR_HTTP__NAMES", "[\"relay.example\"]"),
        ];
        let config = load("", &variables).unwrap();
        assert_eq!(config.http.origins, ["https://a.example", "http://b.example:3000"]);
        assert_eq!(config.http.listen, Plain(None));
        assert_eq!(config.http.names, ["relay.example"]);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, variables, expected) in [
            ("[cache]\nbyts = 1", &[][..], "weir.toml:2: cache.byts: unknown field `byts`"),
            ("\n[limits]\ntopics = \"x\"", &[], "weir.toml:3: limits.topics: invalid type"),
            ("listen = \"nowhere\"", &[], "weir.toml:1: listen: invalid socket address"),
            ("cache = [", &[], "weir.toml:1: "),
            ("", &[("WEIR_CACHE__BYTS", "1")], "environment variable WEIR_CACHE__BYTS: "),
            ("", &[("WEIR_CACHE", "1")], "environment variable WEIR_CACHE: "),
            ("", &[("WEIR_LISTEN", "x")], "environment variable WEIR_LISTEN: "),
            ("", &[("WEIR_CACHE__BYTES", "much")], "environment variable WEIR_CACHE__BYTES: "),
            ("[cache]\nbytes = \"32MiB\"", &[], "limits.payload: 16.0 MiB is not between"),
            ("[http]\nlisten = \"8080\"", &[], "weir.toml:2: http.listen: \"8080\" is neither"),
            ("[http]\norigins = [\"evil\"]", &[], "http.origins: \"evil\" is not an origin"),
            (
                "[http]\nnames = [\"a.example:80\"]",
                &[],
                "http.names: \"a.example:80\" is not a host name",
            ),
            ("[limits]\nwindow = 1", &[], "limits.window: 1 is below 64"),
        ] {
            let error = load(text, variables).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let missing = Config::load(Some(Path::new("/no/such.toml")), []).unwrap_err().to_string();
        assert!(missing.starts_with("/no/such.toml: "), "{missing}");
    }
}
