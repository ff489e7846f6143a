//! Admits sessions of every face: allowed origins, the number of sessions in all, of each address and
//! of each identity, and when they leave a daemon that drains.

use super::Broker;
use super::clock::Clock;
use super::newcomers::{NEWCOMERS, Newcomer, Newcomers};
use super::places::{Place, Places};
#[cfg(feature = "otel")]
use super::spans::{Span, Spans};
use super::stop::{InFlight, Stage, spread};
use super::throttle::{Budgets, ReplayBudget, Shared, Throttle};
use crate::access::addresses::{AddressPlace, Addresses, Handshake, Use};
use crate::access::gate::Access;
use crate::access::identities::{IdentityPlace, IdentityPlaces};
use crate::access::identity_intakes::IdentityIntakes;
use crate::access::limit_counts::{Limit, LimitCounts};
use crate::access::limits::{PeerLimits, TOGETHER};
use crate::access::origin::Origins;
use crate::access::quota::{IntakeRates, Rate};
use crate::access::{AccessRules, Credentials, Identity};
use crate::engine::Budget;
use crate::wire::{Code, Refusal};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Maximum time to find out who a peer is, 10 s: another program may be asked.
const IDENTIFY: Duration = Duration::from_secs(10);

/// A session's place, in all and of its address. Dropping it releases both.
#[derive(Debug)]
pub(crate) struct SessionPermit {
    _place: Place,
    /// Until the peer's hello. None for an address that is exempt.
    pub(crate) newcomer: Option<Newcomer>,
    // None until the address is proven, and for one that is exempt.
    address: Option<AddressPlace>,
}

/// Everything a face needs to admit a session. Cheap to clone: each face has one.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Inner>);

struct Inner {
    broker: Arc<Broker>,
    sessions: Places,
    connections: Places,
    addresses: Arc<Addresses>,
    identities: Arc<IdentityPlaces>,
    intakes: IdentityIntakes,
    // Without a hello, and without a request over HTTP.
    newcomers: [Arc<Newcomers>; 2],
    // Largest payload, bytes.
    payload: usize,
    counts: Arc<LimitCounts>,
    clock: Clock,
    // For what is in flight between sessions and the daemon.
    buffers: Budget,
    origins: RwLock<Arc<Origins>>,
    access: Access,
    // Counts how often the rules of access were replaced.
    rules_changed: watch::Sender<u64>,
    stage: watch::Sender<Stage>,
    in_flight: InFlight,
    // Set when the daemon begins to drain.
    leaving: OnceLock<Leaving>,
    // Set if the daemon exports traces.
    #[cfg(feature = "otel")]
    spans: OnceLock<Spans>,
}

/// No place is free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoPlace;

// When sessions are to leave.
#[derive(Debug)]
struct Leaving {
    sessions: u32,
    spread: Duration,
    // Number of those that have their time.
    told: AtomicU32,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Admission").field(&*self.0.stage.borrow()).finish()
    }
}

impl Admission {
    /// Admits as many sessions as the limits allow, until the daemon drains or stops.
    pub(crate) fn new(
        broker: Arc<Broker>,
        limits: PeerLimits,
        origins: Origins,
        access: AccessRules,
    ) -> Self {
        let full = "no more sessions (limits.sessions): refusing";
        let sessions = Places::new(limits.sessions, full);
        let full = "no more TCP connections (limits.sessions): closing";
        let connections = Places::new(limits.sessions, full);
        let counts = Arc::<LimitCounts>::default();
        let identities = IdentityPlaces::new(limits.sessions_per_identity, counts.clone());
        let payload = broker.with(|engine| engine.limits().payload);
        let buffers = Budget::new(limits.buffers);
        let addresses = Addresses::new(limits, counts.clone());
        let (intakes, stage, in_flight, leaving) = Default::default();
        let clock = Clock::start();
        let inner = Inner {
            broker,
            sessions,
            connections,
            addresses,
            identities,
            intakes,
            newcomers: [0; 2].map(|_| Newcomers::new(NEWCOMERS, counts.clone())),
            payload,
            counts,
            clock,
            buffers,
            origins: RwLock::new(Arc::new(origins)),
            access: Access::new(access),
            rules_changed: watch::Sender::default(),
            stage,
            in_flight,
            leaving,
            #[cfg(feature = "otel")]
            spans: OnceLock::new(),
        };
        Self(Arc::new(inner))
    }

    /// Applies other limits. Peers stay that are above a lower number, and none comes until there are
    /// fewer. Sessions and connections that began before keep their rates.
    pub(crate) fn set_limits(&self, limits: PeerLimits) {
        self.0.sessions.set_limit(limits.sessions);
        self.0.connections.set_limit(limits.sessions);
        self.0.identities.set_most(limits.sessions_per_identity);
        self.0.buffers.set_most(limits.buffers);
        self.0.addresses.set_limits(limits);
    }

    /// Applies other origins and names to the requests that follow.
    pub(crate) fn set_origins(&self, origins: Origins) {
        *self.0.origins.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(origins);
    }

    /// Applies other rules of access. Streams of events look at their rights again; the caller has the
    /// sessions do so. With `keeps_keys`, the keys stay that were read for the rules before.
    pub(crate) fn set_access(&self, rules: AccessRules, keeps_keys: bool) {
        self.0.access.replace(rules, keeps_keys);
        self.0.rules_changed.send_modify(|changes| *changes += 1);
    }

    /// Changes when the rules of access are replaced.
    pub(crate) fn rules_changed(&self) -> watch::Receiver<u64> {
        self.0.rules_changed.subscribe()
    }

    /// The rules of access.
    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    /// How often each limit has taken effect.
    pub(crate) fn counts(&self) -> &Arc<LimitCounts> {
        &self.0.counts
    }

    /// The budget for what is in flight between sessions and the daemon.
    pub(crate) fn buffers(&self) -> &Budget {
        &self.0.buffers
    }

    /// The places of sessions.
    pub(crate) fn sessions(&self) -> &Places {
        &self.0.sessions
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.clock
    }

    pub(crate) fn addresses(&self) -> &Arc<Addresses> {
        &self.0.addresses
    }

    /// How fast a session may send, and be sent what was published before.
    pub(crate) fn session_budgets(&self, permit: &SessionPermit) -> Budgets {
        let place = permit.address.as_ref();
        self.budgets(place.map(|place| (Use::default(), Some(place.address().sessions.clone()))))
    }

    /// The same for the requests of an address over HTTP together. An exempt address has no place.
    pub(crate) fn request_budgets(&self, place: Option<&AddressPlace>) -> Budgets {
        self.budgets(place.map(|place| (place.address().requests.clone(), None)))
    }

    /// The same for a peer that has no limits but its own.
    pub(crate) fn unlimited_budgets(&self) -> Budgets {
        self.budgets(None)
    }

    // The second use is of all sessions of an address. Without any, there are no limits.
    fn budgets(&self, of: Option<(Use, Option<Use>)>) -> Budgets {
        let Inner { addresses, payload, clock, counts, .. } = &*self.0;
        let limits = addresses.limits();
        let none = Rate::per_second(0);
        let (intake, replay) = match of {
            Some(_) => (limits.intake(*payload), limits.replay()),
            None => (IntakeRates { messages: none, bytes: none }, none),
        };
        let (own, together) = of.unwrap_or_default();
        let (together, replays) = together.map(|all| (all.intake, all.replay)).unzip();
        let throttle = (intake, own.intake, together.map(|all| (intake.times(TOGETHER), all)));
        let replay = (replay, own.replay, replays.map(|all| (replay.times(TOGETHER), all)));
        Budgets {
            throttle: Throttle::new(throttle, *clock, counts.clone()),
            replay: ReplayBudget::new(replay, *clock, counts.clone()),
        }
    }

    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.0.broker
    }

    /// The origins whose pages may open sessions.
    pub(crate) fn origins(&self) -> Arc<Origins> {
        self.0.origins.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The places of TCP connections.
    pub(crate) fn connections(&self) -> &Places {
        &self.0.connections
    }

    /// How far the daemon has come.
    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.0.stage.subscribe()
    }

    /// Work that a draining daemon waits for, except for that of sessions.
    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.0.in_flight
    }

    /// The queue for the spans of sessions and requests. None if the daemon exports no traces.
    #[cfg(feature = "otel")]
    pub(crate) fn spans(&self) -> Option<&Spans> {
        self.0.spans.get()
    }

    /// Has sessions and requests leave their spans.
    #[cfg(feature = "otel")]
    pub(crate) fn set_spans(&self, spans: Spans) {
        // An error means that they do so already.
        let _ = self.0.spans.set(spans);
    }

    /// Leaves a span for the export, without waiting. One without room is dropped and counted.
    #[cfg(feature = "otel")]
    pub(crate) fn leave_span(&self, span: Span) {
        if !self.spans().is_some_and(|spans| spans.leave(span)) {
            self.0.broker.counters().dropped_spans.add(1);
        }
    }

    /// Takes a place for one more session, whose address is proven later. The face refuses the session
    /// if there is none.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<SessionPermit> {
        let Some(place) = self.0.sessions.admit() else {
            self.0.counts.add(Limit::Sessions);
            return None;
        };
        let newcomer = self.newcomer(0, address).ok()?;
        Some(SessionPermit { _place: place, newcomer, address: None })
    }

    /// Takes a place for a TCP connection until its first request, as [`admit`](Self::admit). An
    /// address that is exempt needs none.
    pub(crate) fn admit_connection(&self, address: IpAddr) -> Result<Option<Newcomer>, NoPlace> {
        self.newcomer(1, address)
    }

    fn newcomer(&self, kind: usize, address: IpAddr) -> Result<Option<Newcomer>, NoPlace> {
        if self.0.addresses.limits().is_exempt(address) {
            return Ok(None);
        }
        self.0.newcomers[kind].admit().map(Some).ok_or(NoPlace)
    }

    /// Decides about a first packet over QUIC, and takes the place of an address that is proven.
    pub(crate) fn handshake(
        &self,
        permit: &mut SessionPermit,
        address: IpAddr,
        proven: bool,
    ) -> Handshake {
        let decision = self.0.addresses.handshake(address, proven, self.0.clock.now());
        if proven && decision == Handshake::Accept && self.admit_address(permit, address).is_err() {
            return Handshake::Refuse;
        }
        decision
    }

    /// The address of a handshake over QUIC has turned out to be real. Takes its place.
    ///
    /// # Errors
    ///
    /// The limit that the address has reached.
    pub(crate) fn prove(&self, permit: &mut SessionPermit, address: IpAddr) -> Result<(), Limit> {
        self.0.addresses.charge(address, self.0.clock.now());
        self.admit_address(permit, address)
    }

    /// Takes a session's place of an address that is proven.
    ///
    /// # Errors
    ///
    /// The limit that the address has reached.
    pub(crate) fn admit_address(
        &self,
        permit: &mut SessionPermit,
        address: IpAddr,
    ) -> Result<(), Limit> {
        permit.address = self.0.addresses.admit_session(address)?;
        Ok(())
    }

    /// Returns who a peer is, at a time in µs since 1970. A refusal is charged to the peer's address.
    pub(crate) async fn identify(
        &self,
        credentials: Credentials<'_>,
        now: u64,
    ) -> Result<Arc<Identity>, Refusal> {
        let Inner { access, addresses, clock, .. } = &*self.0;
        let address = credentials.address;
        let shown = credentials.token.is_some() || credentials.certificate.is_some();
        let rules = access.rules();
        let verifies = shown || rules.asks_without_token();
        if verifies && !addresses.may_identify(address, clock.now()) {
            let reason = "too many tokens and certificates of this address were refused: try again \
                          in some seconds, with one that is valid";
            return Err(Refusal::new(Code::RATE_LIMITED, reason));
        }
        let identified = timeout(IDENTIFY, rules.identify(credentials, now)).await;
        let identified = identified.unwrap_or_else(|_| {
            let reason = "the daemon could not verify the token in time: try again later";
            Err(Refusal::new(Code::OVERLOADED, reason))
        });
        // A refusal that a retry can help is not the peer's fault, but for a token whose time has passed.
        let is_fault = |why: &Refusal| why.code == Code::TOKEN_EXPIRED || !why.code.retry();
        if let Err(refusal) = &identified {
            let (code, reason) = (refusal.code.name(), &*refusal.reason);
            if is_fault(refusal) {
                addresses.failed(address, clock.now());
                // Of one address not more often than it may fail.
                tracing::info!(%address, code, reason, "a token or certificate was refused");
            } else {
                tracing::debug!(%address, code, reason, "a token or certificate was not verified");
            }
        }
        identified
    }

    /// Takes a place for a session of an identity, which may have a lower limit of its own. Returns
    /// `None` if it has as many as it may have.
    pub(crate) fn admit_identity(&self, name: &str, most: Option<u32>) -> Option<IdentityPlace> {
        self.0.identities.admit(name, most)
    }

    /// Returns the limits of an identity, and what it has sent over all its sessions and requests. None if
    /// it has no limits.
    pub(crate) fn intake_of(&self, identity: &Identity) -> Option<Shared> {
        self.0.intakes.of(identity)
    }

    /// Begins to drain, for at most `within`. After that, faces admit no sessions and requests.
    pub(crate) fn drain(&self, within: Duration) {
        self.0.leaving.get_or_init(|| {
            let sessions = self.0.sessions.taken();
            let spread = spread(sessions, within);
            tracing::info!(sessions, ?spread, "sessions are asked to leave");
            Leaving { sessions, spread, told: AtomicU32::new(0) }
        });
        self.advance(Stage::Draining);
    }

    /// Ends what is left.
    pub(crate) fn stop(&self) {
        self.advance(Stage::Stopping);
    }

    fn advance(&self, next: Stage) {
        self.0.stage.send_if_modified(|stage| std::mem::replace(stage, next.max(*stage)) < next);
    }

    /// When the next session is to leave. These times are spread evenly.
    pub(crate) fn leaves_after(&self) -> Duration {
        let Some(Leaving { sessions, spread, told }) = self.0.leaving.get() else {
            return Duration::ZERO;
        };
        let place = told.fetch_add(1, Ordering::Relaxed).min(*sessions);
        spread.saturating_mul(place) / (*sessions).max(1)
    }

    /// Waits until no session and no work is left.
    pub(crate) async fn drained(&self) {
        self.ended().await;
        self.0.in_flight.none().await;
    }

    /// Waits until no session is left. After the stop no new ones are admitted.
    pub(crate) async fn ended(&self) {
        self.0.sessions.all_free().await;
    }
}
