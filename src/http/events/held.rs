//! The budget, the places and the rights of one stream of events.

use crate::access::Identity;
use crate::access::addresses::AddressPlace;
use crate::access::gate::Access;
use crate::access::limit_counts::Limit;
use crate::broker::Broker;
use crate::broker::throttle::ReplayBudget;
use crate::http::connection::ConnectionHandle;
use crate::http::problem::Problem;
use crate::http::state::{AppState, EVENT_STREAMS};
use crate::net::now;
use crate::wire::{Code, Filter, Refusal};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;

/// The budget that the streams of an address share, and the places of this one.
pub(super) struct Held {
    pub(super) replay: ReplayBudget,
    pub(super) identity: Arc<Identity>,
    pub(super) filter: Filter,
    /// Changes with the rules of access.
    pub(super) rules_changed: watch::Receiver<u64>,
    pub(super) _permit: (OwnedSemaphorePermit, Option<AddressPlace>),
    pub(super) _open: Open,
}

/// Counts as a stream that is open.
pub(super) struct Open(Arc<Broker>);

impl Open {
    pub(super) fn new(broker: &Arc<Broker>) -> Self {
        broker.counters().event_streams.add(1);
        Self(broker.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters().event_streams.take(1);
    }
}

// The longest wait for the end of a stream's rights before the clock is looked at again.
const LOOK: Duration = Duration::from_secs(60);

impl Held {
    /// Returns why the stream may not go on, if its token has expired, or the rules of access have changed
    /// and allow it no more.
    pub(super) fn ended(&mut self, access: &Access) -> Option<Refusal> {
        if self.rules_changed.has_changed().unwrap_or_default() {
            self.rules_changed.mark_unchanged();
            self.identity = access.rules().renew(&self.identity);
            if let Err(refusal) = access.subscribe(&self.identity, &self.filter) {
                return Some(Refusal::clone(refusal));
            }
        }
        self.identity.expires().filter(|at| *at <= now()).map(|_| {
            let reason = "the time of the token has passed: subscribe again with a new one";
            Refusal::new(Code::TOKEN_EXPIRED, reason)
        })
    }
}

/// Waits until the rights of a stream may have ended.
pub(super) async fn ending(identity: &Identity, rules_changed: &mut watch::Receiver<u64>) {
    let expiring = async {
        match identity.expires() {
            Some(at) => sleep(Duration::from_micros(at.saturating_sub(now())).min(LOOK)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = expiring => {}
        // It fails only if the daemon is gone.
        changed = rules_changed.changed() => {
            if changed.is_ok() {
                // For `ended`, which looks at it.
                rules_changed.mark_changed();
            }
        }
    }
}

/// Takes a place for one more stream, in all and of its address.
pub(super) fn admit(
    state: &AppState,
    connection: &ConnectionHandle,
) -> Result<(OwnedSemaphorePermit, Option<AddressPlace>), Problem> {
    let of_address = state.addresses.admit_event_stream(connection.address()).map_err(|_| {
        Problem::of(
            Code::RATE_LIMITED,
            "this address has as many streams of events as it may have: connect again later, or \
             subscribe over WebTransport or WebSocket",
        )
    })?;
    let place = state.streams.clone().try_acquire_owned().map_err(|_| {
        state.counts.add(Limit::EventStreams);
        Problem::of(
            Code::OVERLOADED,
            format!(
                "the daemon has {EVENT_STREAMS} streams of events already: connect again later, or \
                 subscribe over WebTransport or WebSocket"
            ),
        )
    })?;
    Ok((place, of_address))
}
