//! `weir.toml`. Precedence: flag, environment, file, default. Unknown keys are an error. An error
//! names the file, the line, the column and the key, or the variable.
//!
//! For the binary `weir`. These types follow the keys of the file, and may change with every version
//! of the library. A program that embeds the daemon uses [`Builder`](crate::daemon::Builder) instead.

mod access;
mod changes;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod journal;
mod limits;
mod load;
mod log;
mod ops;
mod schema;
mod schema_types;
#[cfg(test)]
mod tests;
mod tls;
mod topics;
mod words;

pub use access::{AccessConfig, RightsConfig};
pub use changes::Differences;
pub use error::ConfigError;
pub use journal::{JournalConfig, JournalKind, OnFailureConfig, StorageConfig, SyncConfig};
pub use limits::{LimitsConfig, NetworkText};
pub use load::{Loaded, Places};
pub use log::{LogConfig, LogFormat, Part};
pub use ops::OpsConfig;
pub use schema::schema;
pub use tls::{AcmeConfig, ChallengeConfig, DirectoryConfig, TlsConfig};
pub use topics::{FilterText, KeepConfig, PublicConfig, TopicConfig};

use crate::access::origin::Origins;
use crate::engine::Limits;
use crate::units::duration;
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The file in the package, which `weir default-config` prints: every key with its default.
pub const DEFAULT: &str = include_str!("../systemd/weir.toml");

/// The daemon's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Address for raw QUIC and WebTransport (UDP), HTTPS and WebSocket (TCP). Default
    /// `[::]:4433`, which takes IPv4 too.
    #[schemars(with = "schema_types::Address")]
    pub listen: SocketAddr,
    /// Maximum time for which a daemon that stops completes what is in flight. Default 10 s.
    pub drain: Span,
    /// `[http]`.
    pub http: HttpConfig,
    /// `[cache]`.
    pub cache: CacheConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[journal]`.
    pub journal: JournalConfig,
    /// `[ops]`.
    pub ops: OpsConfig,
    /// `[tls]`.
    pub tls: TlsConfig,
    /// `[access]`.
    pub access: AccessConfig,
    /// `[log]`.
    pub log: LogConfig,
    /// `[[topics]]`. Default none.
    pub topics: Vec<TopicConfig>,
}

/// A duration, such as `10s` or `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        duration(&text).map(Self)
    }
}

/// Default maximum time to complete what is in flight.
const DRAIN: Duration = Duration::from_secs(10);

/// `[http]`: the HTTP face.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Address for HTTP and WebSocket without TLS. Default `127.0.0.1:8080`.
    pub listen: Plain,
    /// Origins of other hosts whose pages may connect. Default none.
    pub origins: Vec<String>,
    /// The names of this daemon, besides its addresses and localhost. Requests under other names are
    /// rejected. Default none.
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

/// `[cache]`: the memory of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheConfig {
    /// Bytes for payloads, their logs and indexes, and counts. Default 256 MiB.
    #[schemars(with = "schema_types::Size")]
    pub bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv6Addr::UNSPECIFIED, crate::wire::PORT).into(),
            drain: Span(DRAIN),
            http: HttpConfig::default(),
            cache: CacheConfig::default(),
            limits: LimitsConfig::default(),
            journal: JournalConfig::default(),
            ops: OpsConfig::default(),
            tls: TlsConfig::default(),
            access: AccessConfig::default(),
            log: LogConfig::default(),
            topics: Vec::new(),
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { bytes: ByteSize(Limits::default().cache as u64) }
    }
}

/// The variable with certificate hashes for the verbs that connect, if no flag says what to trust.
pub(crate) const CERT_HASH: &str = "WEIR_CERT_HASH";

// A value that is not allowed. The first of the keys that is set is the one to change.
struct WrongValue {
    keys: &'static [&'static str],
    reason: String,
}

// A size as the file has it.
fn exact(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes.is_multiple_of(MIB) { format!("{}MiB", bytes / MIB) } else { format!("{bytes} bytes") }
}

impl Config {
    fn check(&self) -> Result<(), WrongValue> {
        let wrong = |keys, reason: String| Err(WrongValue { keys, reason });
        self.tls.check()?;
        self.access.check(self.tls.client_authorities.is_some())?;
        if self.cache.bytes < ByteSize::mib(1) {
            return wrong(&["cache.bytes"], format!("{} is below 1MiB", self.cache.bytes));
        }
        self.journal.check(self.cache.bytes)?;
        if let Err(error) = Origins::parse(&self.http.origins) {
            return wrong(&["http.origins"], error.to_string());
        }
        if let Err(error) = Origins::default().named(&self.http.names) {
            return wrong(&["http.names"], error.to_string());
        }
        self.log.check()?;
        self.limits.check(self.cache.bytes)?;
        Ok(())
    }

    /// Returns the limits for the engine.
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
