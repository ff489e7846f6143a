//! `weir.toml`. Precedence: flag, environment, file, default. Unknown keys are an error. An error
//! names the file, the line and the key, or the variable.

mod error;
mod journal;
mod load;
#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use journal::{JournalConfig, JournalKind, OnFailureConfig, SyncConfig};

use crate::access::origin::Origins;
use crate::daemon::JournalOptions;
use crate::engine::{Limits, MAX_PAYLOAD};
use crate::units::duration;
use bytesize::ByteSize;
use serde::Deserialize;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The file in the package, which `weir default-config` prints: every key with its default.
pub const DEFAULT: &str = include_str!("../systemd/weir.toml");

/// The daemon's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Address for raw QUIC and WebTransport (UDP), HTTPS and WebSocket (TCP). Default
    /// `[::]:4433`, which takes IPv4 too.
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheConfig {
    /// Bytes for payloads, their logs and indexes, and counts. Default 256 MiB.
    pub bytes: ByteSize,
}

/// `[limits]`: limits of peers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Maximum size of a payload. Default 16 MiB.
    pub payload: ByteSize,
    /// Maximum number of sessions at once; further ones are refused. Default 65,536.
    pub sessions: usize,
    /// Maximum number of topics. Default 65,536.
    pub topics: usize,
    /// Maximum number of subscriptions in one session. Default 256.
    pub subscriptions: u32,
    /// Maximum number of producers that a topic remembers. Default 1,024.
    pub producers: usize,
    /// Maximum distance between a producer's number and its oldest missing one. Default 1,024.
    pub window: u32,
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
        let limits = &self.limits;
        if self.cache.bytes < ByteSize::mib(1) {
            return wrong(&["cache.bytes"], format!("{} is below 1MiB", self.cache.bytes));
        }
        let least = JournalOptions::least_bytes(self.cache.bytes.0);
        if let Some(bytes) = self.journal.bytes.filter(|bytes| bytes.0 < least) {
            // Not rounded, because the two may be close.
            let (bytes, least) = (exact(bytes.0), exact(least));
            let reason = format!("{bytes} is below four times cache.bytes and 32MiB, {least}");
            return wrong(&["journal.bytes", "cache.bytes"], reason);
        }
        if let Err(error) = Origins::parse(&self.http.origins) {
            return wrong(&["http.origins"], error.to_string());
        }
        if let Err(error) = Origins::default().named(&self.http.names) {
            return wrong(&["http.names"], error.to_string());
        }
        if limits.payload.0 == 0 || limits.payload.0 > self.cache.bytes.0 / 4 {
            return wrong(
                &["limits.payload", "cache.bytes"],
                format!(
                    "a limits.payload of {} is not between 1 byte and {}, a quarter of cache.bytes: \
                     set it too where the cache is to be small",
                    limits.payload,
                    ByteSize(self.cache.bytes.0 / 4)
                ),
            );
        }
        if limits.payload.0 > MAX_PAYLOAD as u64 {
            return wrong(&["limits.payload"], format!("{} is above 1GiB", limits.payload));
        }
        for (keys, value, least) in [
            (&["limits.sessions"], limits.sessions, 1),
            (&["limits.topics"], limits.topics, 1),
            (&["limits.producers"], limits.producers, 1),
            (&["limits.window"], limits.window as usize, 64),
            (&["limits.subscriptions"], limits.subscriptions as usize, 1),
        ] {
            if value < least {
                return wrong(keys, format!("{value} is below {least}"));
            }
        }
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
