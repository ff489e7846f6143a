//! The engine against a model that keeps everything.

#[cfg(test)]
mod arrivals;
mod audit;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod datagrams;
#[cfg(test)]
mod deferred;
#[cfg(test)]
mod examples;
pub(crate) mod fuzz;
#[cfg(test)]
mod had;
#[cfg(test)]
mod intake;
#[cfg(test)]
mod listing;
mod model;
#[cfg(test)]
mod own_topics;
mod peer;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod realtime;
#[cfg(test)]
mod receipts;
#[cfg(test)]
mod repairs;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod restoring;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod runs;
pub(crate) mod seeds;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod stats;

mod subscriber;

use super::subscribe::portions::{PORTIONS, Portions};
use super::{Engine, Limits, Payload, Publication, PublicationId, Receipt};
use crate::wire::{Digest, ProducerId, Refusal};
use bytes::Bytes;

/// So little in each call, and for each subscription, that whatever has a second portion has one.
const SMALLEST: Portions = Portions {
    work: 5,
    sweep: 5,
    first: 1,
    recent: 1,
    window: 2,
    free: 1,
    wakes: 3,
    evictions: 3,
    ..PORTIONS
};

/// A small budget, so that eviction is the rule.
fn small() -> Limits {
    Limits::default().with_cache(1 << 20)
}

fn engine(limits: Limits) -> Engine {
    Engine::new(limits, 1_000_000, [7; 32])
}

/// Payload number `n`: distinct from all others, and of one of several sizes up to 150 KiB.
fn payload(n: u32) -> Bytes {
    let size = [10, 100, 700, 3000, 4096, 5000, 20_000, 150_000][n as usize % 8];
    let mut bytes = vec![n as u8; size];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    bytes.into()
}

fn publish(
    engine: &mut Engine,
    now: u64,
    topic: &str,
    payload: &Bytes,
    origin: Option<(u8, u64)>,
) -> Result<Receipt, Refusal> {
    let publication = Publication {
        topic,
        payload: &Payload::from(payload.clone()),
        digest: Digest::of(payload),
        stamp: now,
        origin: origin.map(|(producer, number)| PublicationId {
            producer: ProducerId([producer; 16]),
            number,
        }),
    };
    engine.publish(now, &publication)
}
