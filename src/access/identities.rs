//! The number of sessions of each identity.

use super::limit_counts::{Limit, LimitCounts};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The digest of a name, so that names of any length take the same memory.
type Key = [u8; 16];

/// The identities that have sessions: as many as those at most, 20 bytes each.
#[derive(Debug)]
pub(crate) struct IdentityPlaces {
    most: AtomicU32,
    counts: Arc<LimitCounts>,
    sessions: Mutex<HashMap<Key, u32>>,
}

/// A session's place among those of its identity. Dropping it releases the place.
#[derive(Debug)]
pub(crate) struct IdentityPlace {
    all: Arc<IdentityPlaces>,
    key: Key,
}

impl IdentityPlaces {
    /// Allows `most` sessions of each identity.
    pub(crate) fn new(most: u32, counts: Arc<LimitCounts>) -> Arc<Self> {
        Arc::new(Self { most: most.into(), counts, sessions: Mutex::default() })
    }

    /// Allows another number from now on. Sessions stay that are above it.
    pub(crate) fn set_most(&self, most: u32) {
        self.most.store(most, Relaxed);
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a session of this identity, which may have a lower limit of its own. Returns
    /// `None` if it has as many as it may have.
    pub(crate) fn admit(self: &Arc<Self>, name: &str, most: Option<u32>) -> Option<IdentityPlace> {
        let digest = blake3::hash(name.as_bytes());
        let key = *digest.as_bytes().first_chunk()?;
        let mut sessions = self.sessions();
        let count = sessions.get(&key).copied().unwrap_or_default();
        let of_all = self.most.load(Relaxed);
        if count >= most.map_or(of_all, |most| most.min(of_all)) {
            self.counts.add(Limit::SessionsPerIdentity);
            return None;
        }
        sessions.insert(key, count + 1);
        drop(sessions);
        Some(IdentityPlace { all: self.clone(), key })
    }
}

impl Drop for IdentityPlace {
    fn drop(&mut self) {
        let mut sessions = self.all.sessions();
        let left = sessions.get(&self.key).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            sessions.remove(&self.key);
        } else {
            sessions.insert(self.key, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_so_many_sessions_and_leaves_nothing_behind() {
        let counts = Arc::<LimitCounts>::default();
        let identities = IdentityPlaces::new(2, counts.clone());
        let alice: Vec<_> = (0..2).map(|_| identities.admit("alice", None).unwrap()).collect();
        assert!(identities.admit("alice", None).is_none());
        assert!(identities.admit("bob", None).is_some());
        assert_eq!(counts.get(Limit::SessionsPerIdentity), 1);
        drop(alice);
        assert!(identities.admit("alice", None).is_some());
        assert!(identities.sessions().is_empty());
    }
}
