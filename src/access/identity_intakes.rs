//! The publications that each identity with limits has sent lately, over all its sessions and requests.
//! The count outlives them: who closes a session and opens another one has no full bucket again.

use super::identity::Identity;
use super::quota::{Intake, IntakeRates};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum number of identities that are remembered, about 150 bytes each. Only identities whose
/// tokens have limits count. The one that came longest ago makes room, and its bucket is full when it
/// comes again. A peer cannot bring that about, because whoever signs tokens decides on names.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// The digest of a name, so that names of any length take the same memory.
type Key = [u8; 16];

/// By name, what identities have sent.
#[derive(Debug)]
pub(crate) struct IdentityIntakes(Mutex<LruCache<Key, Arc<Intake>>>);

impl Default for IdentityIntakes {
    fn default() -> Self {
        // It grows with what it holds.
        Self(Mutex::new(LruCache::unbounded()))
    }
}

impl IdentityIntakes {
    /// Returns the limits of an identity, and what it has sent. None if it has no limits.
    pub(crate) fn of(&self, identity: &Identity) -> Option<(IntakeRates, Arc<Intake>)> {
        let limits = identity.limits();
        let rates = IntakeRates::of(limits.messages_per_second, limits.bytes_per_second);
        if rates.is_unlimited() {
            return None;
        }
        let Some(name) = identity.name() else {
            return Some((rates, Arc::default()));
        };
        let key = *blake3::hash(name.as_bytes()).as_bytes().first_chunk()?;
        let mut intakes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let intake = intakes.get_or_insert(key, Arc::default).clone();
        if intakes.len() > REMEMBERED.get() {
            intakes.pop_lru();
        }
        Some((rates, intake))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{IdentityLimits, Rights};
    use std::time::Duration;

    fn named(name: &str) -> Identity {
        let limits = IdentityLimits { messages_per_second: Some(10), ..IdentityLimits::default() };
        Identity::named(name, Rights::everything()).unwrap().with_limits(limits)
    }

    #[test]
    fn an_identity_that_comes_again_has_what_is_left_of_its_rate() {
        let all = IdentityIntakes::default();
        let send = |identity: &Identity, now: u64| {
            let (rates, intake) = all.of(identity).unwrap();
            intake.receive(&rates, now, 10, 0).wait
        };
        assert_eq!(send(&named("ada"), 0), Duration::ZERO);
        assert_eq!(send(&named("ada"), 0), Duration::from_secs(1));
        assert_eq!(send(&named("bob"), 0), Duration::ZERO);
        assert_eq!(send(&named("ada"), 3_000_000_000), Duration::ZERO);
        let free = Identity::named("eve", Rights::everything()).unwrap();
        assert!(all.of(&free).is_none());
    }

    #[test]
    fn so_many_identities_are_remembered() {
        let all = IdentityIntakes::default();
        for n in 0..REMEMBERED.get() + 10 {
            all.of(&named(&format!("peer-{n}"))).unwrap();
        }
        assert_eq!(all.0.lock().unwrap().len(), REMEMBERED.get());
    }
}
