//! One turn of one case.

use crate::bench::stats::Sorted;
use crate::bench::traffic::{Account, PROBE, payload, publish, recognise};
use crate::client::{SubscribeError, Subscription};
use crate::wire::{Delivery, Refusal};
use crate::{Client, Event, Start, SubscribeOptions};
use anyhow::{Context as _, bail};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, timeout};

/// The first part of a slice is not measured, because caches and timers are cold after idling.
pub(super) const WARM_UP: Duration = Duration::from_millis(200);

/// Maximum time from the last publication until a message is counted as missing, on one machine.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// A publisher and a subscriber, connected for all slices of a case.
pub(super) struct Pair {
    publisher: Client,
    _subscriber: Client,
    subscription: Arc<tokio::sync::Mutex<Subscription>>,
    topic: Arc<str>,
    delivery: Delivery,
}

impl Pair {
    pub(super) async fn new(
        (publisher, subscriber): (Client, Client),
        topic: String,
        delivery: Delivery,
    ) -> anyhow::Result<Result<Self, Refusal>> {
        let options = SubscribeOptions { delivery, ..SubscribeOptions::from(Start::All) };
        let mut subscription = match subscriber.subscribe(&topic, &options).await {
            Err(SubscribeError::Refused(refusal)) => return Ok(Err(refusal)),
            subscription => subscription?,
        };
        publisher.publish(&topic, payload(0, PROBE, 100)).await?;
        match timeout(STRAGGLERS, subscription.next()).await?.transpose()? {
            Some(Event::Message(_)) => {}
            other => bail!("expected the first message, got {other:?}"),
        }
        let subscription = Arc::new(tokio::sync::Mutex::new(subscription));
        let topic = topic.into();
        Ok(Ok(Self { publisher, _subscriber: subscriber, subscription, topic, delivery }))
    }
}

/// The messages of a slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    /// Different in each slice. Payloads carry it.
    pub(super) number: u64,
    pub(super) messages: u64,
    pub(super) period: Duration,
    pub(super) size: usize,
}

/// The result of a slice.
#[derive(Debug)]
pub(super) struct Turn {
    /// ns.
    pub(super) latencies: Sorted,
    pub(super) account: Account,
    pub(super) sent: u64,
}

impl Turn {
    /// The number of messages that were neither delivered nor reported as a gap.
    pub(super) fn missing(&self) -> u64 {
        self.account.missing(self.sent)
    }
}

impl Slice {
    /// Publishes and receives in separate tasks, on the threads of the runtime.
    pub(super) async fn run(self, pair: &Pair) -> anyhow::Result<Turn> {
        let start = Instant::now();
        // The time at which each message was given to the client, ns after the start.
        let stamps: Arc<[AtomicU64]> = (0..self.messages).map(|_| AtomicU64::new(0)).collect();
        let publisher = pair.publisher.clone();
        let (topic, delivery) = (pair.topic.clone(), pair.delivery);
        let to_stamp = stamps.clone();
        let publishing = tokio::spawn(async move {
            let mut due = tokio::time::interval(self.period);
            // A late message does not delay the next one.
            due.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for (index, stamp) in (0..).zip(&*to_stamp) {
                due.tick().await;
                let message = payload(self.number, index, self.size);
                stamp.store(start.elapsed().as_nanos() as u64, Ordering::Release);
                // The receipt is not awaited: the subscriber counts the message.
                publish(&publisher, delivery, &topic, message).await?;
            }
            anyhow::Ok(())
        });
        let subscription = pair.subscription.clone();
        let receiving = tokio::spawn(async move {
            let mut subscription = subscription.lock().await;
            let mut account = Account::new(self.messages);
            let mut latencies = Vec::with_capacity(self.messages as usize);
            let wait = self.period * self.messages as u32 + STRAGGLERS;
            let all = async {
                while account.missing(self.messages) > 0 {
                    let event = subscription.next().await.context("the subscription ended")??;
                    let now = start.elapsed().as_nanos() as u64;
                    match event {
                        Event::Message(message) => {
                            let index = recognise(self.number, self.size, &message.payload);
                            if let Some(index) = account.message(index) {
                                let sent = stamps[index as usize].load(Ordering::Acquire);
                                if sent >= WARM_UP.as_nanos() as u64 {
                                    latencies.push(now.saturating_sub(sent));
                                }
                            }
                        }
                        Event::Gap(gap) => account.gap(&gap),
                        other => bail!("expected a message, got {other:?}"),
                    }
                }
                anyhow::Ok(())
            };
            // Messages that have not arrived by then count as missing.
            if let Ok(ended) = timeout(wait, all).await {
                ended?;
            }
            anyhow::Ok((account, latencies))
        });
        publishing.await??;
        let (account, latencies) = receiving.await??;
        Ok(Turn { latencies: Sorted::new(latencies), account, sent: self.messages })
    }
}
