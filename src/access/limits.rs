//! Limits of peers: how many sessions, and how much each may send and be sent.

use super::quota::{IntakeRates, Rate};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Bytes that every answer counts as at least, 1 KiB: its task and its stream cost about as much as
/// sending them.
pub(crate) const ANSWER: u64 = 1 << 10;

/// How many times as much the sessions of one address may send, and be sent, together: 8. Sessions that
/// come again and again, or many at once, begin with full buckets each.
pub(crate) const TOGETHER: u64 = 8;

/// Limits of peers. Every field has a default: see [`PeerLimits::default`]. A rate of 0 is
/// unlimited.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use weir::daemon::PeerLimits;
///
/// let mut limits = PeerLimits::default();
/// limits.sessions_per_address = 16;
/// limits.exempt.push("10.0.0.0/8".parse()?);
/// let builder = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).peers(limits);
/// let daemon = builder.spawn().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerLimits {
    /// Maximum number of sessions over all transports, and of TCP connections. Default 65,536.
    pub sessions: usize,
    /// Maximum number of sessions of one address. An IPv6 address counts as its network of 64 bits,
    /// because a customer gets at least one such network. Default 1,024: an office or a carrier's
    /// translator has hundreds of people behind one address, and one host takes at most a sixty-fourth
    /// of the places.
    pub sessions_per_address: u32,
    /// Maximum number of sessions of one identity. Default 1,024: the processes of a service may share
    /// a token, and a token that was stolen takes at most a sixty-fourth of the places.
    pub sessions_per_identity: u32,
    /// Maximum number of TCP connections of one address, as [`sessions_per_address`]. Default 1,024.
    ///
    /// [`sessions_per_address`]: Self::sessions_per_address
    pub connections_per_address: u32,
    /// Handshakes of QUIC and TLS that one address may begin in a second. It may save up as many as
    /// it may have sessions, so that all of them can come back at once. Default 100, which take 2 % of
    /// one core.
    pub handshakes_per_address: u32,
    /// Tokens, certificates and requests without either that may be refused for one address in a
    /// second, because they prove no identity. It may save up as many as in ten seconds. Above that, the
    /// daemon refuses credentials of the address without verifying them. Default 10: a signature takes
    /// 100 µs to verify, and a token without `kid` up to 16 of them.
    pub failures_per_address: u32,
    /// Frames that one session may send in a second, publications above all. Default 100,000: a
    /// third of what a daemon relays with one core. The sessions of one address together may send
    /// eight times as many, and this holds for the next two limits too.
    pub messages: u64,
    /// Bytes that one session may send in a second. Default 128 MiB: a link of one gigabit a second.
    pub bytes: u64,
    /// Bytes that one session may be sent in a second of what was published before it subscribed, and
    /// of answers. A request of ten bytes may ask for all of the cache. Messages that are published
    /// meanwhile do not count. Default 64 MiB: half of a gigabit a second; a session gets the first 64 MiB at
    /// once.
    pub replay: u64,
    /// Bytes that may be in flight between the daemon and all its sessions over QUIC: sent and not
    /// acknowledged, or received and not read. The 512 KiB that each session has do not count.
    /// Default 256 MiB. A session that needs more gets up to 4 MiB, and 2 MiB for each large payload that it
    /// is sent, while there is room. Without room it is slower on long paths.
    pub buffers: usize,
    /// Networks whose peers have none of these limits, except for those of all sessions together.
    /// Proxies belong here, because all their clients have one address, and machines that are
    /// trusted. Default the loopback addresses.
    pub exempt: Vec<Network>,
}

impl Default for PeerLimits {
    fn default() -> Self {
        let v4 = Network { address: Ipv4Addr::new(127, 0, 0, 0).into(), bits: 8 };
        let v6 = Network { address: Ipv6Addr::LOCALHOST.into(), bits: 128 };
        Self {
            sessions: 65_536,
            sessions_per_address: 1024,
            sessions_per_identity: 1024,
            connections_per_address: 1024,
            handshakes_per_address: 100,
            failures_per_address: 10,
            messages: 100_000,
            bytes: 128 << 20,
            replay: 64 << 20,
            buffers: 256 << 20,
            exempt: vec![v4, v6],
        }
    }
}

impl PeerLimits {
    pub(crate) fn handshakes(&self) -> Rate {
        let rate = self.handshakes_per_address;
        Rate::new(rate.into(), rate.max(self.sessions_per_address).into())
    }

    pub(crate) fn failures(&self) -> Rate {
        let rate = u64::from(self.failures_per_address);
        Rate::new(rate, 10 * rate)
    }

    /// Returns the rates of what a peer may send. The largest payload, bytes, is not slowed if it
    /// comes alone.
    pub(crate) fn intake(&self, payload: usize) -> IntakeRates {
        let bytes = Rate::new(self.bytes, self.bytes.max(payload as u64));
        IntakeRates { messages: Rate::per_second(self.messages), bytes }
    }

    pub(crate) fn replay(&self) -> Rate {
        Rate::per_second(self.replay)
    }

    /// Whether an address is in one of the [exempt](Self::exempt) networks.
    pub(crate) fn is_exempt(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.exempt.iter().any(|network| network.contains(address))
    }
}

/// A network, such as `127.0.0.0/8` or `2001:db8::/32`. An address alone is a network of one.
///
/// ```
/// use weir::daemon::Network;
///
/// let proxies: Network = "192.0.2.0/24".parse()?;
/// assert!(proxies.contains("192.0.2.7".parse().unwrap()));
/// assert!("192.0.2.0/33".parse::<Network>().is_err());
/// # Ok::<(), weir::daemon::NetworkError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

/// A text that is not a [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network such as 127.0.0.0/8, 2001:db8::/32 or 192.0.2.1")]
pub struct NetworkError(String);

impl Network {
    /// Returns whether the network has this address. IPv4 addresses in IPv6 are those of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= self.bits
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { address, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        let contains = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("127.0.0.0/8", "127.9.9.9") && !contains("127.0.0.0/8", "128.0.0.1"));
        assert!(contains("127.0.0.0/8", "::ffff:127.0.0.1") && !contains("127.0.0.0/8", "::1"));
        assert!(contains("192.0.2.1", "192.0.2.1") && !contains("192.0.2.1", "192.0.2.0"));
        assert!(contains("0.0.0.0/0", "203.0.113.5") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
        for wrong in ["", "a", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/-1", "/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn loopback_addresses_are_exempt_by_default_and_others_are_not() {
        let limits = PeerLimits::default();
        let exempt = |address: &str| limits.is_exempt(address.parse().unwrap());
        assert!(exempt("127.0.0.1") && exempt("::1") && exempt("::ffff:127.0.0.2"));
        assert!(!exempt("10.0.0.1") && !exempt("::2") && !exempt("fe80::1"));
    }
}
