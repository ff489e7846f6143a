//! `[limits]`: limits of peers.

use super::WrongValue;
use crate::access::limits::{Network, PeerLimits};
use crate::engine::{Limits, MAX_PAYLOAD};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;

/// `[limits]`: limits of peers. The rates are for one second, and 0 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Maximum size of a payload. Default 16 MiB.
    #[schemars(with = "super::schema_types::Size")]
    pub payload: ByteSize,
    /// Maximum number of sessions at once; further ones are refused. Default 65,536.
    pub sessions: usize,
    /// Maximum number of sessions of one address. Default 1,024.
    pub sessions_per_address: u32,
    /// Maximum number of sessions of one identity. Default 1,024.
    pub sessions_per_identity: u32,
    /// Maximum number of TCP connections of one address. Default 1,024.
    pub connections_per_address: u32,
    /// Handshakes that one address may begin in a second. Default 100.
    pub handshakes_per_address: u32,
    /// Tokens and certificates of one address that may be refused in a second. Default 10.
    pub failures_per_address: u32,
    /// Frames that one session may send in a second. Default 100,000.
    pub messages: u64,
    /// Bytes that one session may send in a second. Default 128 MiB.
    #[schemars(with = "super::schema_types::Size")]
    pub bytes: ByteSize,
    /// Bytes of earlier messages and answers that one session may be sent in a second. Default
    /// 64 MiB.
    #[schemars(with = "super::schema_types::Size")]
    pub replay: ByteSize,
    /// Bytes that may be in flight between the daemon and all its sessions, beyond 512 KiB each.
    /// Default 256 MiB.
    #[schemars(with = "super::schema_types::Size")]
    pub buffers: ByteSize,
    /// Networks that have none of the limits of addresses and sessions. Default the loopback
    /// addresses.
    pub exempt: Vec<NetworkText>,
    /// Maximum number of topics. Default 65,536.
    pub topics: usize,
    /// Maximum number of subscriptions in one session. Default 256.
    pub subscriptions: u32,
    /// Maximum number of producers that a topic remembers. Default 1,024.
    pub producers: usize,
    /// Maximum distance between a producer's number and its oldest missing one. Default 1,024.
    pub window: u32,
}

/// A network, such as `127.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NetworkText(pub Network);

impl TryFrom<String> for NetworkText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: crate::daemon::NetworkError| error.to_string())
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let Limits { payload, topics, subscriptions, producers, window, .. } = Limits::default();
        let peers = PeerLimits::default();
        Self {
            payload: ByteSize(payload as u64),
            sessions: peers.sessions,
            sessions_per_address: peers.sessions_per_address,
            sessions_per_identity: peers.sessions_per_identity,
            connections_per_address: peers.connections_per_address,
            handshakes_per_address: peers.handshakes_per_address,
            failures_per_address: peers.failures_per_address,
            messages: peers.messages,
            bytes: ByteSize(peers.bytes),
            replay: ByteSize(peers.replay),
            buffers: ByteSize(peers.buffers as u64),
            exempt: peers.exempt.into_iter().map(NetworkText).collect(),
            topics,
            subscriptions,
            producers,
            window,
        }
    }
}

/// Least rate of bytes. A publisher or a reader that is slowed waits for less than half a minute, even
/// for the largest payload, so that it is not taken for a silent one.
const LEAST_BYTES: u64 = 1 << 20;

impl LimitsConfig {
    pub(super) fn check(&self, cache: ByteSize) -> Result<(), WrongValue> {
        let wrong = |keys, reason: String| Err(WrongValue { keys, reason });
        if self.payload.0 == 0 || self.payload.0 > cache.0 / 4 {
            return wrong(
                &["limits.payload", "cache.bytes"],
                format!(
                    "a limits.payload of {} is not between 1 byte and {}, a quarter of cache.bytes: \
                     set it too where the cache is to be small",
                    self.payload,
                    ByteSize(cache.0 / 4)
                ),
            );
        }
        if self.payload.0 > MAX_PAYLOAD as u64 {
            return wrong(&["limits.payload"], format!("{} is above 1GiB", self.payload));
        }
        for (keys, value, least) in [
            (&["limits.sessions"], self.sessions, 1),
            (&["limits.sessions_per_address"], self.sessions_per_address as usize, 1),
            (&["limits.sessions_per_identity"], self.sessions_per_identity as usize, 1),
            (&["limits.connections_per_address"], self.connections_per_address as usize, 1),
            (&["limits.topics"], self.topics, 1),
            (&["limits.producers"], self.producers, 1),
            (&["limits.window"], self.window as usize, 64),
            (&["limits.subscriptions"], self.subscriptions as usize, 1),
        ] {
            if value < least {
                return wrong(keys, format!("{value} is below {least}"));
            }
        }
        for (keys, rate) in [(&["limits.bytes"], self.bytes), (&["limits.replay"], self.replay)] {
            if rate.0 != 0 && rate.0 < LEAST_BYTES {
                return wrong(keys, format!("{rate} is below 1MiB, and not 0, which is unlimited"));
            }
        }
        Ok(())
    }

    /// Returns the limits of peers.
    pub fn peers(&self) -> PeerLimits {
        PeerLimits {
            sessions: self.sessions,
            sessions_per_address: self.sessions_per_address,
            sessions_per_identity: self.sessions_per_identity,
            connections_per_address: self.connections_per_address,
            handshakes_per_address: self.handshakes_per_address,
            failures_per_address: self.failures_per_address,
            messages: self.messages,
            bytes: self.bytes.0,
            replay: self.replay.0,
            buffers: self.buffers.0 as usize,
            exempt: self.exempt.iter().map(|network| network.0).collect(),
        }
    }
}
