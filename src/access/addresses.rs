//! The addresses of peers: their sessions, connections and handshakes, and how much they send and are
//! sent. Pure: the time is an argument, nanoseconds after any begin.
//!
//! An address takes a place in the table only when it has proven that it receives packets. Over TCP the
//! system's handshake proves it, over QUIC a Retry token or a complete handshake. So forged addresses
//! neither fill the table nor use up what others may do.
//!
//! Addresses with sessions or connections are as many as those, which have limits of their own. Of the
//! others, [`REMEMBERED`] are kept, and the one that came least recently gives way. A forgotten address
//! begins anew. That helps only a peer that has as many addresses, and such a peer is bounded by the
//! limits of all peers together.

use super::limit_counts::{Limit, LimitCounts};
use super::limits::PeerLimits;
use super::quota::{Bucket, Intake, Rate};
use lru::LruCache;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Maximum number of streams of events of one address, 256: a quarter of those of all.
const EVENT_STREAMS: u32 = 256;

/// Addresses without sessions and connections that are remembered: 16,384, which take 3 MiB.
const REMEMBERED: usize = 16_384;

/// An address of IPv4, or a network of 64 bits of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    V4(u32),
    V6(u64),
}

impl Key {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// One address.
#[derive(Debug)]
pub(crate) struct Address {
    key: Key,
    handshakes: Bucket,
    failures: Bucket,
    /// Its requests over HTTP.
    pub(crate) requests: Use,
    /// All its sessions together.
    pub(crate) sessions: Use,
}

/// The bytes and frames that a peer has sent, and the bytes of earlier messages and answers that it
/// was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Use {
    pub(crate) intake: Arc<Intake>,
    pub(crate) replay: Arc<Bucket>,
}

/// An address with sessions or connections.
#[derive(Debug)]
struct Live {
    address: Arc<Address>,
    sessions: u32,
    connections: u32,
    event_streams: u32,
}

impl Live {
    fn count(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Session => &mut self.sessions,
            Kind::Connection => &mut self.connections,
            Kind::EventStream => &mut self.event_streams,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Session,
    Connection,
    EventStream,
}

#[derive(Debug)]
struct Table {
    live: HashMap<Key, Live>,
    idle: LruCache<Key, Arc<Address>, RandomState>,
}

/// The limits in force, and the rates that follow from them.
#[derive(Debug)]
pub(crate) struct Limits {
    peers: PeerLimits,
    handshakes: Rate,
    failures: Rate,
}

impl Limits {
    fn new(peers: PeerLimits) -> Arc<Self> {
        Arc::new(Self { handshakes: peers.handshakes(), failures: peers.failures(), peers })
    }
}

impl std::ops::Deref for Limits {
    type Target = PeerLimits;

    fn deref(&self) -> &PeerLimits {
        &self.peers
    }
}

/// The table of addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    limits: RwLock<Arc<Limits>>,
    counts: Arc<LimitCounts>,
    table: Mutex<Table>,
}

/// The decision about a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// It may go on.
    Accept,
    /// The address has to be proven first.
    Prove,
    /// The address began too many, or has as many sessions as it may have.
    Refuse,
}

/// A place of an address. Dropping it releases the place.
#[derive(Debug)]
pub(crate) struct AddressPlace {
    table: Arc<Addresses>,
    address: Arc<Address>,
    kind: Kind,
}

impl AddressPlace {
    pub(crate) fn address(&self) -> &Arc<Address> {
        &self.address
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        self.table.table().release(&self.address, self.kind);
    }
}

impl Addresses {
    pub(crate) fn new(limits: PeerLimits, counts: Arc<LimitCounts>) -> Arc<Self> {
        let idle = LruCache::unbounded_with_hasher(RandomState::new());
        let table = Mutex::new(Table { live: HashMap::new(), idle });
        Arc::new(Self { limits: RwLock::new(Limits::new(limits)), counts, table })
    }

    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Applies other limits from now on. Places that are taken stay, and so does the debt of each
    /// address.
    pub(crate) fn set_limits(&self, limits: PeerLimits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Limits::new(limits);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about a first packet over QUIC. An address that is `proven` is charged, and one that is
    /// not leaves no trace: it has to be [charged](Self::charge) when the handshake is complete.
    pub(crate) fn handshake(&self, address: IpAddr, proven: bool, now: u64) -> Handshake {
        let limits = self.limits();
        if limits.is_exempt(address) {
            return Handshake::Accept;
        }
        let rate = limits.handshakes;
        let key = Key::of(address);
        let mut table = self.table();
        if let Some(Live { sessions, .. }) = table.live.get(&key)
            && *sessions >= limits.sessions_per_address
        {
            if proven {
                self.counts.add(Limit::SessionsPerAddress);
                return Handshake::Refuse;
            }
            return Handshake::Prove;
        }
        if !proven {
            let known = table.peek(key);
            let over = known.is_some_and(|known| !known.handshakes.debt(rate, now).is_zero());
            return if over { Handshake::Prove } else { Handshake::Accept };
        }
        if table.remember(key).handshakes.try_spend(rate, now, 1) {
            return Handshake::Accept;
        }
        self.counts.add(Limit::HandshakesPerAddress);
        Handshake::Refuse
    }

    /// Decides about a connection over TCP that begins a handshake of TLS. The system's handshake has
    /// proven its address. Returns whether it may go on.
    pub(crate) fn tls_handshake(&self, address: IpAddr, now: u64) -> bool {
        let limits = self.limits();
        if limits.is_exempt(address) {
            return true;
        }
        let address = self.table().remember(Key::of(address));
        let accepted = address.handshakes.try_spend(limits.handshakes, now, 1);
        if !accepted {
            self.counts.add(Limit::HandshakesPerAddress);
        }
        accepted
    }

    /// Charges a handshake whose address was unproven when it began, and is proven now.
    pub(crate) fn charge(&self, address: IpAddr, now: u64) {
        let limits = self.limits();
        if !limits.is_exempt(address) {
            let address = self.table().remember(Key::of(address));
            address.handshakes.spend(limits.handshakes, now, 1);
        }
    }

    /// Whether the credentials of an address are worth verifying: not if too many of it have
    /// [failed](Self::failed).
    pub(crate) fn may_identify(&self, address: IpAddr, now: u64) -> bool {
        let limits = self.limits();
        if limits.failures.is_unlimited() || limits.is_exempt(address) {
            return true;
        }
        let table = self.table();
        let known = table.peek(Key::of(address));
        let may = known.is_none_or(|known| known.failures.debt(limits.failures, now).is_zero());
        drop(table);
        if !may {
            self.counts.add(Limit::FailuresPerAddress);
        }
        may
    }

    /// Charges credentials of an address that have proven no identity.
    pub(crate) fn failed(&self, address: IpAddr, now: u64) {
        let limits = self.limits();
        if !limits.is_exempt(address) {
            let address = self.table().remember(Key::of(address));
            address.failures.spend(limits.failures, now, 1);
        }
    }

    /// Takes a place for a session. `None` is the place of an exempt address.
    ///
    /// # Errors
    ///
    /// The limit that the address has reached.
    pub(crate) fn admit_session(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<Option<AddressPlace>, Limit> {
        let most = self.limits().sessions_per_address;
        self.admit(address, Kind::Session, (most, Limit::SessionsPerAddress))
    }

    /// Takes a place for a TCP connection, as [`admit_session`](Self::admit_session).
    pub(crate) fn admit_connection(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<Option<AddressPlace>, Limit> {
        let most = self.limits().connections_per_address;
        self.admit(address, Kind::Connection, (most, Limit::ConnectionsPerAddress))
    }

    /// Takes a place for a stream of events, as [`admit_session`](Self::admit_session).
    pub(crate) fn admit_event_stream(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<Option<AddressPlace>, Limit> {
        self.admit(address, Kind::EventStream, (EVENT_STREAMS, Limit::EventStreamsPerAddress))
    }

    fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        kind: Kind,
        (most, limit): (u32, Limit),
    ) -> Result<Option<AddressPlace>, Limit> {
        if self.limits().is_exempt(address) {
            return Ok(None);
        }
        let mut table = self.table();
        let live = table.live(Key::of(address));
        let (address, count) = (live.address.clone(), live.count(kind));
        if *count >= most {
            // An address without a place is not live.
            table.settle(address.key);
            self.counts.add(limit);
            return Err(limit);
        }
        *count += 1;
        drop(table);
        Ok(Some(AddressPlace { table: self.clone(), address, kind }))
    }
}

impl Table {
    fn peek(&self, key: Key) -> Option<&Address> {
        let live = self.live.get(&key).map(|live| &*live.address);
        live.or_else(|| self.idle.peek(&key).map(|address| &**address))
    }

    // Returns the address, which is remembered from now on.
    fn remember(&mut self, key: Key) -> Arc<Address> {
        if let Some(live) = self.live.get(&key) {
            return live.address.clone();
        }
        if let Some(known) = self.idle.get(&key) {
            return known.clone();
        }
        let address = Arc::new(Address::new(key));
        self.keep(address.clone());
        address
    }

    // Keeps an address that is not live. The one that came least recently gives way.
    fn keep(&mut self, address: Arc<Address>) {
        self.idle.put(address.key, address);
        while self.idle.len() > REMEMBERED {
            self.idle.pop_lru();
        }
    }

    fn live(&mut self, key: Key) -> &mut Live {
        let Self { live, idle } = self;
        live.entry(key).or_insert_with(|| {
            let address = idle.pop(&key).unwrap_or_else(|| Arc::new(Address::new(key)));
            Live { address, sessions: 0, connections: 0, event_streams: 0 }
        })
    }

    fn release(&mut self, address: &Address, kind: Kind) {
        if let Some(live) = self.live.get_mut(&address.key) {
            let count = live.count(kind);
            *count = count.saturating_sub(1);
        }
        self.settle(address.key);
    }

    // Moves an address without sessions and connections to those that are only remembered.
    fn settle(&mut self, key: Key) {
        let gone = self.live.get(&key).is_some_and(|live| {
            live.sessions == 0 && live.connections == 0 && live.event_streams == 0
        });
        if gone && let Some(Live { address, .. }) = self.live.remove(&key) {
            self.keep(address);
        }
    }
}

impl Address {
    fn new(key: Key) -> Self {
        let (handshakes, failures, requests, sessions) = Default::default();
        Self { key, handshakes, failures, requests, sessions }
    }
}

#[cfg(test)]
mod tests;
