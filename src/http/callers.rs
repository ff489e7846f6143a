//! The callers that are known: answers for tokens, and tickets.

use crate::access::Identity;
use crate::net::now;
use lru::LruCache;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Maximum number of answers for tokens that are kept. The one used longest ago makes room.
const ANSWERS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Maximum number of tickets. The oldest makes room.
const TICKETS: usize = 16_384;

/// Maximum number of tickets of one identity. Its oldest makes room, so that an identity that takes
/// one after the other displaces no other's. A page takes one for each stream and reconnect, and a
/// ticket is valid for a minute.
const TICKETS_EACH: usize = 256;

/// An identity that may be used without being looked up again.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) identity: Arc<Identity>,
    pub(super) until: Instant,
    // Other keys may not accept the token.
    pub(super) generation: u64,
}

impl Known {
    fn is_valid(&self, generation: u64) -> bool {
        let ended = self.until <= Instant::now();
        let expired = self.identity.expires().is_some_and(|at| at <= now());
        !ended && !expired && self.generation == generation
    }
}

/// Answers for tokens, by the digest of the token and the address.
pub(super) struct Answers(Mutex<LruCache<[u8; 32], Known>>);

impl Default for Answers {
    fn default() -> Self {
        // It grows with what it holds.
        Self(Mutex::new(LruCache::unbounded()))
    }
}

impl Answers {
    pub(super) fn put(&self, key: [u8; 32], known: Known) {
        let mut answers = lock(&self.0);
        answers.put(key, known);
        if answers.len() > ANSWERS.get() {
            answers.pop_lru();
        }
    }

    pub(super) fn get(&self, key: &[u8; 32], generation: u64) -> Option<Arc<Identity>> {
        let mut answers = lock(&self.0);
        let known = answers.get(key)?;
        if !known.is_valid(generation) {
            answers.pop(key);
            return None;
        }
        Some(known.identity.clone())
    }
}

/// The random number that is a ticket.
pub(super) type Ticket = [u8; 16];

/// The digest of who has taken a ticket.
pub(super) type Owner = [u8; 32];

/// The tickets that are valid.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    by_ticket: HashMap<Ticket, Known>,
    // Oldest first. Each of them is in `by_ticket`, and in the list of its owner in the same order.
    order: VecDeque<(Ticket, Owner)>,
    by_owner: HashMap<Owner, VecDeque<Ticket>>,
}

impl Tickets {
    /// Keeps a ticket. All are valid for the same time.
    pub(super) fn put(&self, ticket: Ticket, owner: Owner, known: Known) {
        let mut taken = lock(&self.0);
        taken.remove_ended();
        let own = taken.by_owner.get(&owner).map_or(0, VecDeque::len);
        if own >= TICKETS_EACH {
            taken.remove_oldest_of(owner);
        } else if taken.order.len() >= TICKETS
            && let Some((_, oldest)) = taken.order.front().copied()
        {
            taken.remove_oldest_of(oldest);
        }
        taken.by_ticket.insert(ticket, known);
        taken.order.push_back((ticket, owner));
        taken.by_owner.entry(owner).or_default().push_back(ticket);
    }

    pub(super) fn get(&self, ticket: &Ticket, generation: u64) -> Option<Arc<Identity>> {
        let taken = lock(&self.0);
        let known = taken.by_ticket.get(ticket)?;
        known.is_valid(generation).then(|| known.identity.clone())
    }
}

impl Taken {
    fn remove_ended(&mut self) {
        let now = Instant::now();
        while let Some((ticket, owner)) = self.order.front().copied()
            && self.by_ticket.get(&ticket).is_none_or(|known| known.until <= now)
        {
            self.remove_oldest_of(owner);
        }
    }

    fn remove_oldest_of(&mut self, owner: Owner) {
        let Some(own) = self.by_owner.get_mut(&owner) else { return };
        let oldest = own.pop_front();
        if own.is_empty() {
            self.by_owner.remove(&owner);
        }
        if let Some(oldest) = oldest {
            self.by_ticket.remove(&oldest);
            // 16,384 are compared at most, which takes some µs.
            if let Some(at) = self.order.iter().position(|(ticket, _)| *ticket == oldest) {
                self.order.remove(at);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Rights;
    use std::time::Duration;

    fn known(until: Instant) -> Known {
        let identity = Arc::new(Identity::anonymous(Rights::nothing()));
        Known { identity, until, generation: 1 }
    }

    fn ticket(n: usize) -> Ticket {
        (n as u128).to_le_bytes()
    }

    // `POST /v1/tickets` once pushed out the tickets of all others.
    #[test]
    fn who_takes_many_tickets_displaces_its_own() {
        let tickets = Tickets::default();
        let until = Instant::now() + Duration::from_secs(60);
        tickets.put(ticket(0), [1; 32], known(until));
        for n in 1..=TICKETS + 10 {
            tickets.put(ticket(n), [2; 32], known(until));
        }
        assert!(tickets.get(&ticket(0), 1).is_some());
        assert!(tickets.get(&ticket(TICKETS + 10), 1).is_some());
        assert!(tickets.get(&ticket(TICKETS + 10 - TICKETS_EACH), 1).is_none());
        let taken = tickets.0.lock().unwrap();
        assert_eq!((taken.order.len(), taken.by_ticket.len()), (257, 257));
    }

    #[test]
    fn so_many_tickets_are_kept_and_those_that_have_ended_leave() {
        let tickets = Tickets::default();
        let begun = Instant::now();
        for n in 0..TICKETS + 300 {
            let mut owner = [0; 32];
            owner[..8].copy_from_slice(&(n / TICKETS_EACH).to_le_bytes());
            tickets.put(ticket(n), owner, known(begun + Duration::from_secs(60)));
        }
        let lengths = |taken: &Taken| {
            let owned: usize = taken.by_owner.values().map(VecDeque::len).sum();
            (taken.order.len(), taken.by_ticket.len(), owned)
        };
        assert_eq!(lengths(&tickets.0.lock().unwrap()), (TICKETS, TICKETS, TICKETS));
        assert!(tickets.get(&ticket(299), 1).is_none());
        assert!(tickets.get(&ticket(300), 1).is_some() && tickets.get(&ticket(300), 2).is_none());
        let tickets = Tickets::default();
        (0..100).for_each(|n| tickets.put(ticket(n), [n as u8; 32], known(begun)));
        assert!(tickets.get(&ticket(99), 1).is_none());
        tickets.put(ticket(100), [100; 32], known(begun));
        assert_eq!(lengths(&tickets.0.lock().unwrap()), (1, 1, 1));
    }
}
