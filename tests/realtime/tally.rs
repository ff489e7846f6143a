//! Checks that each sequence of a subscription arrives once with its payload, or is reported as a
//! gap, and not both.

use crate::common::within;
use crate::lossy::{CLEAN, Lossy};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use weir::client::Subscription;
use weir::wire::{Delivery, GapCause};
use weir::{Client, Daemon, Event, Message, SubscribeOptions, Transport, Trust};

/// Connects a client over a network, which loses nothing meanwhile: connecting fails after 5 s.
pub(crate) async fn through(lossy: &Lossy, daemon: &Daemon, transport: Transport) -> Client {
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(lossy.address.to_string());
    let rules = lossy.set(CLEAN);
    let client = within(
        builder
            .transport(transport)
            .trust(trust)
            .reconnect(weir::client::Reconnect::never())
            .connect(),
    )
    .await
    .unwrap();
    lossy.set(rules);
    client
}

pub(crate) fn options(delivery: Delivery) -> SubscribeOptions {
    SubscribeOptions::default().with_delivery(delivery)
}

/// The payload of the n-th message of a topic, of this size.
pub(crate) fn content(topic: &str, n: u64, size: usize) -> Bytes {
    let mut bytes = format!("{topic} {n} ").repeat(1 + size / 4).into_bytes();
    bytes.truncate(size);
    bytes.into()
}

/// Publishes the n-th message of a topic that has one publisher.
pub(crate) fn publish(daemon: &Daemon, topic: &str, n: u64, size: usize) {
    let receipt = daemon.publish(topic, content(topic, n, size)).unwrap();
    assert_eq!(receipt.sequence, n);
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    // Sequences that arrived and that were reported as gaps, by topic and epoch.
    arrived: BTreeMap<(String, u64), BTreeSet<u64>>,
    gaps: BTreeMap<(String, u64), BTreeMap<u64, GapCause>>,
    pub(crate) messages: u64,
    pub(crate) missed: u64,
}

impl Tally {
    pub(crate) fn total(&self) -> u64 {
        self.messages + self.missed
    }

    /// Counts an event, and ignores its payload.
    pub(crate) fn take(&mut self, event: Event) -> Option<Message> {
        match event {
            Event::Message(message) => {
                let place = (message.topic.to_string(), message.epoch);
                let gaps = self.gaps.get(&place);
                assert!(
                    !gaps.is_some_and(|gaps| gaps.contains_key(&message.sequence)),
                    "{message:?} was reported as a gap"
                );
                let new = self.arrived.entry(place).or_default().insert(message.sequence);
                assert!(new, "{} {} arrived twice", message.topic, message.sequence);
                self.messages += 1;
                Some(message)
            }
            Event::Gap(gap) => {
                assert!(gap.first <= gap.last && gap.last < gap.first + 10_000_000, "{gap:?}");
                let place = (gap.topic.to_string(), gap.epoch);
                for sequence in gap.first..=gap.last {
                    let arrived = self.arrived.get(&place);
                    assert!(
                        !arrived.is_some_and(|arrived| arrived.contains(&sequence)),
                        "{gap:?}, had {sequence}"
                    );
                    let gaps = self.gaps.entry(place.clone()).or_default();
                    assert!(
                        gaps.insert(sequence, gap.cause).is_none(),
                        "{gap:?} twice for {sequence}"
                    );
                    self.missed += 1;
                }
                None
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the next event.
    pub(crate) async fn next(&mut self, subscription: &mut Subscription) -> Option<Message> {
        let event = within(subscription.next()).await.unwrap().unwrap();
        self.event(event)
    }

    /// Counts an event, and checks that its payload is that of [`publish`].
    pub(crate) fn event(&mut self, event: Event) -> Option<Message> {
        let message = self.take(event);
        if let Some(Message { topic, sequence, payload, .. }) = &message {
            let right = payload == &content(topic, *sequence, payload.len());
            assert!(right, "{topic} {sequence} has another payload");
        }
        message
    }

    /// Reads until this many sequences have arrived or were reported as gaps.
    pub(crate) async fn until(&mut self, subscription: &mut Subscription, total: u64) {
        while self.total() < total {
            self.next(subscription).await;
        }
        assert_eq!(self.total(), total);
    }

    /// Asserts that everything up to `last` was accounted for, in one epoch.
    pub(crate) fn assert_all(&self, topic: &str, last: u64) {
        let of_topic = |place: &&(String, u64)| place.0 == topic;
        let places: BTreeSet<_> =
            self.arrived.keys().chain(self.gaps.keys()).filter(of_topic).collect();
        assert_eq!(places.len(), 1, "{topic}: {places:?}");
        let place = places.into_iter().next().unwrap();
        let mut all = self.arrived.get(place).cloned().unwrap_or_default();
        all.extend(self.gaps.get(place).into_iter().flat_map(|gaps| gaps.keys()));
        assert!(all.iter().copied().eq(1..=last), "{topic}: not all of 1 to {last}");
    }

    pub(crate) fn causes(&self) -> Vec<GapCause> {
        let mut causes: Vec<_> = self.gaps.values().flat_map(BTreeMap::values).copied().collect();
        causes.dedup();
        causes
    }
}

/// Calls `publish(n)` for n from 1 to `total`, at most `ahead` before the subscription, and reads
/// everything.
pub(crate) async fn pump(
    tally: &mut Tally,
    subscription: &mut Subscription,
    total: u64,
    ahead: u64,
    mut publish: impl FnMut(u64),
) {
    let (begun, mut published) = (tally.total(), 0);
    while tally.total() < begun + total {
        while published < total && published < tally.total() - begun + ahead {
            published += 1;
            publish(published);
        }
        tally.next(subscription).await;
    }
    assert_eq!(tally.total(), begun + total);
}
