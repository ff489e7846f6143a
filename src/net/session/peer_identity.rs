//! The identity of a session's peer, as its tasks share it.

use crate::access::Identity;
use crate::access::identities::IdentityPlace;
use crate::engine::Action;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, RwLock};

/// The identity of a session's peer.
pub(super) struct PeerIdentity {
    // None before the hello, and if everybody may do everything. Read for as long as frames are
    // handled, so that none is judged by rights that have just changed.
    pub(super) current: RwLock<Option<Arc<Identity>>>,
    // The number of the rules of access by which it has its rights; UNKNOWN before the hello. Written with
    // it.
    pub(super) rules: AtomicU64,
    // The ends of subscriptions that other rules do not allow, for the task of the control stream.
    pub(super) ends: Mutex<Vec<Action>>,
    pub(super) place: Mutex<Option<IdentityPlace>>,
    pub(super) changed: Notify,
}

/// Stands for the number of the rules of a peer whose hello has not arrived.
pub(super) const UNKNOWN: u64 = u64::MAX;

impl Default for PeerIdentity {
    fn default() -> Self {
        let (current, place, ends, changed) = Default::default();
        Self { current, rules: AtomicU64::new(UNKNOWN), ends, place, changed }
    }
}
