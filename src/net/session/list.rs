//! The sessions of remote peers, for those who watch the daemon.

use super::flow::Flow;
use super::notices::Notices;
use super::peer::Peer;
use super::traffic::Traffic;
use crate::broker::admission::Admission;
use crate::broker::counters::HandshakeFailure;
use crate::engine::SubscriptionStats;
use crate::net::delivery::delivered::Total;
use crate::net::now;
use crate::net::transport::Transport;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Subscriptions whose statistics are read under one lock.
const AT_ONCE: usize = 4;

/// Maximum number of a session's subscriptions that are looked at for a list of all sessions. A session
/// may have a thousand.
const LISTED: usize = 64;

/// A session of a remote peer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its number, as in the daemon's log and in `Welcome`.
    pub id: u64,
    /// How it is connected.
    pub transport: Transport,
    /// The peer's address. It may change while the session goes on.
    pub address: SocketAddr,
    /// The name of its identity: `sub` of its token, or what an authorizer has said.
    pub name: Option<String>,
    /// The name in the certificate that the peer has shown over raw QUIC: the first DNS name or URI,
    /// or else the common name.
    pub certificate_name: Option<String>,
    /// Since when it is connected, µs since 1970, to the second.
    pub since: u64,
    /// Publications of the peer that were accepted.
    pub received: Flow,
    /// Messages that were read from the cache for its subscriptions.
    pub delivered: Flow,
    /// Smoothed round-trip time (RFC 9002, section 5.3). None over WebSocket.
    pub rtt: Option<Duration>,
    /// QUIC packets that were sent to it. None over WebSocket.
    pub sent_packets: Option<u64>,
    /// Packets of these that were lost.
    pub lost_packets: Option<u64>,
    /// The number of its subscriptions.
    pub subscription_count: usize,
    /// Its subscriptions, by number.
    pub subscriptions: Vec<SubscriptionInfo>,
}

/// A subscription of a session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SubscriptionInfo {
    /// Its number in the session.
    pub request: u32,
    /// How far it is behind, and what it has missed.
    pub stats: SubscriptionStats,
}

/// The admission and the list of sessions. Cheap to clone: each face that serves sessions has one.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) admission: Admission,
    pub(crate) sessions: Arc<Sessions>,
}

impl Host {
    pub(crate) fn new(admission: Admission) -> Self {
        Self { admission, sessions: Arc::default() }
    }

    /// Counts a connection that does not become a session.
    pub(crate) fn failed(&self, why: HandshakeFailure) {
        self.admission.broker().counters().handshake_failed(why);
    }
}

/// The sessions. Each takes a pointer.
pub(crate) struct Sessions {
    // When it began, and the time then, µs since 1970.
    begun: (Instant, u64),
    places: Mutex<Places>,
    pub(super) notices: Arc<Notices>,
    pub(crate) traffic: Traffic,
}

#[derive(Default)]
struct Places {
    all: Vec<Option<Weak<Peer>>>,
    free: Vec<u32>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            begun: (Instant::now(), now()),
            places: Mutex::default(),
            notices: Arc::default(),
            traffic: Traffic::default(),
        }
    }
}

impl Sessions {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session, which is made with its place in the list and its time.
    pub(super) fn add(&self, make: impl FnOnce((u32, u32)) -> Peer) -> Arc<Peer> {
        let since = self.begun.0.elapsed().as_secs() as u32;
        let mut places = self.places();
        let place = places.free.pop().unwrap_or_else(|| {
            places.all.push(None);
            places.all.len() as u32 - 1
        });
        let peer = Arc::new(make((place, since)));
        self.traffic.begin(peer.context.connection.transport());
        places.all[place as usize] = Some(Arc::downgrade(&peer));
        peer
    }

    /// Returns for how long a session has been there, to the second.
    pub(super) fn age(&self, peer: &Peer) -> Duration {
        self.begun.0.elapsed().saturating_sub(Duration::from_secs(peer.since.into()))
    }

    /// Removes a session that has ended.
    pub(super) fn remove(&self, peer: &Peer) {
        self.traffic.look_at(&peer.context.connection, &peer.counted_packets);
        self.traffic.end(peer.context.connection.transport());
        let mut places = self.places();
        places.all[peer.place as usize] = None;
        places.free.push(peer.place);
    }

    /// Returns the sessions that have said hello, in the order of their numbers. The lock of the
    /// engine is taken for a few subscriptions at a time.
    pub(crate) fn list(&self) -> Vec<SessionInfo> {
        let peers = self.peers();
        let open = peers.iter().filter(|peer| peer.is_open());
        let mut list: Vec<_> = open.map(|peer| self.info(peer, usize::MAX)).collect();
        list.sort_by_key(|session| session.id);
        list
    }

    /// Returns the sessions that have said hello.
    pub(crate) fn open(&self) -> Vec<Arc<Peer>> {
        self.peers().into_iter().filter(|peer| peer.is_open()).collect()
    }

    /// Looks at one of them, and at 64 of its subscriptions.
    pub(crate) fn look(&self, peer: &Peer) -> SessionInfo {
        self.info(peer, LISTED)
    }

    /// Has every session look whether the rules of access have changed.
    pub(crate) fn notify_rules(&self) {
        for peer in self.peers() {
            peer.notify_rules();
        }
    }

    pub(super) fn peers(&self) -> Vec<Arc<Peer>> {
        self.places().all.iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// Returns one part of all sessions, of so many.
    pub(super) fn some_peers(&self, part: usize, parts: usize) -> Vec<Arc<Peer>> {
        let places = self.places();
        let some = places.all.iter().skip(part).step_by(parts).flatten();
        some.filter_map(Weak::upgrade).collect()
    }

    // Looks at a session, and at so many of its subscriptions.
    fn info(&self, peer: &Peer, most: usize) -> SessionInfo {
        let connection = &peer.context.connection;
        let (id, (messages, bytes), subscription_count, mut ids) = {
            let session = peer.session();
            let ids = session.subscriptions().take(most).collect::<Vec<_>>();
            (session.id(), session.accepted(), session.subscriptions().count(), ids)
        };
        let totals = [Total { messages, bytes }, peer.context.delivered.total()];
        let [received, delivered] = peer.last_look.flows(Instant::now(), self.age(peer), totals);
        let path = connection.path();
        let name = {
            // It is written when the peer shows a token, which takes a moment.
            let current = peer.identity.current.try_read();
            current.as_ref().ok().and_then(|current| current.as_ref()?.name().map(str::to_owned))
        };
        ids.sort_unstable_by_key(|(request, _)| *request);
        let mut subscriptions = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            peer.context.broker.tidy(|engine| {
                subscriptions.extend(some.iter().filter_map(|(request, id)| {
                    let stats = engine.subscription_stats(*id)?;
                    Some(SubscriptionInfo { request: *request, stats })
                }));
            });
        }
        SessionInfo {
            id,
            transport: connection.transport(),
            address: path.address,
            name,
            certificate_name: connection.certificate_name(),
            since: self.begun.1 + u64::from(peer.since) * 1_000_000,
            received,
            delivered,
            rtt: path.rtt,
            sent_packets: path.sent_packets,
            lost_packets: path.lost_packets,
            subscription_count,
            subscriptions,
        }
    }
}
