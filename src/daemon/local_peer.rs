//! A peer within the process that has an identity: the same decisions as for those that connect.

use super::rights_end::{SubscriptionPlace, rights_ended};
use super::subscription::LocalSubscription;
use super::{get, publish, publish_kept, top};
use crate::access::Identity;
use crate::access::identities::IdentityPlace;
use crate::broker::Broker;
use crate::broker::admission::Admission;
use crate::broker::throttle::Throttle;
use crate::message::{Message, Ranking, Receipt, SubscribeOptions};
use crate::net::now;
use crate::wire::{Code, Filter, Refusal, Which};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// A peer within the process that has an identity: see [`Daemon::as_identity`](super::Daemon::as_identity).
///
/// It counts as a session of its name, has the identity's own limits, and may do nothing when the
/// identity has expired; its subscriptions end then. The daemon's limits of addresses do not concern
/// it.
pub struct LocalPeer {
    broker: Arc<Broker>,
    admission: Admission,
    identity: Arc<Identity>,
    throttle: Throttle,
    subscriptions: Arc<AtomicU32>,
    _place: Option<IdentityPlace>,
}

impl std::fmt::Debug for LocalPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalPeer").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl LocalPeer {
    pub(super) fn new(
        broker: Arc<Broker>,
        admission: Admission,
        identity: Identity,
    ) -> Result<Self, Refusal> {
        let identity = admission.access().rules().admit(identity, now())?;
        let limits = *identity.limits();
        let place = match identity.name() {
            None => None,
            Some(name) => {
                Some(admission.admit_identity(name, limits.sessions).ok_or_else(|| {
                    let reason = "this identity has as many sessions as it may have: drop one";
                    Refusal::new(Code::OVERLOADED, reason)
                })?)
            }
        };
        let throttle = admission.unlimited_budgets().throttle;
        throttle.set_identity(admission.intake_of(&identity));
        let subscriptions = Arc::default();
        Ok(Self { broker, admission, identity, throttle, subscriptions, _place: place })
    }

    /// Returns the identity. Its rights include those that everybody has.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn current(&self) -> Result<&Arc<Identity>, Refusal> {
        match self.identity.expires() {
            Some(at) if at <= now() => Err(rights_ended()),
            _ => Ok(&self.identity),
        }
    }

    /// Publishes, as [`Daemon::publish`](super::Daemon::publish). Above the rate of the identity, it is
    /// refused with [`Code::RATE_LIMITED`].
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>) -> Result<Receipt, Refusal> {
        let payload = payload.into();
        self.may_publish(topic, payload.len())?;
        publish(&self.broker, topic, payload)
    }

    /// Publishes, as [`Daemon::publish_kept`](super::Daemon::publish_kept). The rate is as of
    /// [`publish`](Self::publish).
    pub async fn publish_kept(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Receipt, Refusal> {
        let payload = payload.into();
        self.may_publish(topic, payload.len())?;
        publish_kept(&self.broker, topic, payload).await
    }

    fn may_publish(&self, topic: &str, size: usize) -> Result<(), Refusal> {
        let decision = self.admission.access().publish(self.current()?, topic);
        decision.map_err(|why| Refusal::clone(why))?;
        if self.throttle.try_receive(1, size) { Ok(()) } else { Err(self.throttle.refuse()) }
    }

    /// Returns one message of a topic, as [`Daemon::get`](super::Daemon::get).
    pub fn get(&self, topic: &str, which: Which) -> Result<Message, Refusal> {
        self.may_read(topic)?;
        get(&self.broker, topic, which)
    }

    /// Returns the `k` most counted payloads of a topic, as [`Daemon::top`](super::Daemon::top).
    pub fn top(&self, topic: &str, k: usize) -> Result<Vec<Ranking>, Refusal> {
        self.may_read(topic)?;
        top(&self.broker, topic, k)
    }

    fn may_read(&self, topic: &str) -> Result<(), Refusal> {
        let decision = self.admission.access().read(self.current()?, topic);
        decision.map_err(|why| Refusal::clone(why))
    }

    /// Subscribes, as [`Daemon::subscribe`](super::Daemon::subscribe). The subscription outlives this
    /// peer, and ends with the rights.
    pub fn subscribe(
        &self,
        filter: &str,
        options: &SubscribeOptions,
    ) -> Result<LocalSubscription, Refusal> {
        let bad = |error: crate::wire::NameError| Refusal::new(Code::BAD_FILTER, error.to_string());
        let filter = Filter::new(filter).map_err(bad)?;
        let identity = self.current()?;
        let decision = self.admission.access().subscribe(identity, &filter);
        decision.map_err(|why| Refusal::clone(why))?;
        let most = self.identity.limits().subscriptions.unwrap_or(u32::MAX);
        let place = SubscriptionPlace::take(&self.subscriptions, most)?;
        let subscription = LocalSubscription::begin(&self.broker, filter, options);
        Ok(subscription.of_peer(identity.expires(), place))
    }
}
