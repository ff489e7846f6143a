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

/// The beginning of a slice is not measured: what has stood idle warms up.
pub(super) const WARM_UP: Duration = Duration::from_millis(200);

/// How long a message may still come after the last was sent, on one machine.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// A publisher and a subscriber, connected.
pub(super) struct Standing {
    publisher: Client,
    _subscriber: Client,
    subscription: Arc<tokio::sync::Mutex<Subscription>>,
    topic: Arc<str>,
    delivery: Delivery,
}

impl Standing {
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
            other => bail!("{other:?} in place of the first message"),
        }
        let subscription = Arc::new(tokio::sync::Mutex::new(subscription));
        let topic = topic.into();
        Ok(Ok(Self { publisher, _subscriber: subscriber, subscription, topic, delivery }))
    }
}

/// What a slice is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    /// No other slice's.
    pub(super) number: u64,
    pub(super) messages: u64,
    pub(super) period: Duration,
    pub(super) size: usize,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Turn {
    /// ns.
    pub(super) latencies: Sorted,
    pub(super) account: Account,
    pub(super) sent: u64,
}

impl Slice {
    /// Publishes and receives in tasks of their own, on the runtime's threads.
    pub(super) async fn run(self, standing: &Standing) -> anyhow::Result<Turn> {
        let start = Instant::now();
        // When each was handed over, ns after the start.
        let stamps: Arc<[AtomicU64]> = (0..self.messages).map(|_| AtomicU64::new(0)).collect();
        let publisher = standing.publisher.clone();
        let (topic, delivery) = (standing.topic.clone(), standing.delivery);
        let to_stamp = stamps.clone();
        let publishing = tokio::spawn(async move {
            let mut due = tokio::time::interval(self.period);
            // What was late does not make the next one late.
            due.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for (index, stamp) in (0..).zip(&*to_stamp) {
                due.tick().await;
                let message = payload(self.number, index, self.size);
                stamp.store(start.elapsed().as_nanos() as u64, Ordering::Release);
                // Whether it was accepted, the subscriber knows.
                publish(&publisher, delivery, &topic, message).await?;
            }
            anyhow::Ok(())
        });
        let subscription = standing.subscription.clone();
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
                    }
                }
                anyhow::Ok(())
            };
            // What has not come by then is missing.
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
