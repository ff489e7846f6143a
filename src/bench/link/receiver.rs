//! The subscribing side of a lane: the arrival time of each message, and the number of them.

use super::plan::{Clock, Plan};
use super::publisher::PublisherEvent;
use crate::bench::traffic::{Account, PROBE, payload, recognise};
use crate::client::{SubscribeError, Subscription};
use crate::wire::Delivery;
use crate::{Client, Event, Start, SubscribeOptions};
use anyhow::{Context as _, bail};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Maximum time from the last publication until a message is counted as missing.
const STRAGGLERS: Duration = Duration::from_secs(10);

/// The same if a large payload is still in flight after the last publication: messages that are
/// queued behind it are not lost.
const BULK: Duration = Duration::from_secs(300);

/// Time to wait for duplicates after everything has arrived once.
const COPIES: Duration = Duration::from_millis(500);

/// Maximum time for the first message, over a link that does not lose packets yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first arrival of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Time from the start to when the message was due.
    pub(super) due: Duration,
    pub(super) latency: Duration,
}

/// Everything that arrived.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) account: Account,
    pub(super) samples: Vec<Sample>,
    pub(super) bulk: Option<Bulk>,
    /// Duplicates that the client discarded, and losses that were repaired. From the client's
    /// statistics, in `realtime` only.
    pub(super) repeated: Option<u64>,
    pub(super) repaired: Option<u64>,
}

/// The delivery of the large payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bulk {
    pub(super) delivery: Delivery,
    /// Time from the start to its arrival; `None` if it was still in flight at the end.
    pub(super) arrived: Option<Duration>,
}

/// A subscriber.
pub(super) struct Receiver<'a> {
    plan: &'a Plan,
    // Keeps the session open.
    _client: Client,
    messages: Subscription,
    bulk: Option<(Subscription, Delivery)>,
}

impl<'a> Receiver<'a> {
    pub(super) async fn subscribe(client: Client, plan: &'a Plan) -> anyhow::Result<Self> {
        let from = |delivery| SubscribeOptions { delivery, ..SubscribeOptions::from(Start::All) };
        let messages = client.subscribe(&plan.topic, &from(plan.delivery)).await?;
        let mut bulk = None;
        if plan.bulk.is_some() {
            let topic = &plan.bulk_topic;
            bulk = Some(match client.subscribe(topic, &from(Delivery::Unordered)).await {
                Ok(subscription) => (subscription, Delivery::Unordered),
                Err(SubscribeError::Refused(_)) => {
                    (client.subscribe(topic, &from(Delivery::Ordered)).await?, Delivery::Ordered)
                }
                Err(error) => return Err(error.into()),
            });
        }
        Ok(Self { plan, _client: client, messages, bulk })
    }

    /// Waits for the publisher's probe.
    pub(super) async fn probe(&mut self) -> anyhow::Result<()> {
        let first = tokio::time::timeout(PATIENCE, self.messages.next()).await;
        match first.context("the first message does not arrive")?.transpose()? {
            Some(Event::Message(message))
                if message.payload == payload(self.plan.number, PROBE, self.plan.size) =>
            {
                Ok(())
            }
            other => bail!("expected the first message, got {other:?}"),
        }
    }

    /// Receives until everything that was sent has arrived, or the time for it is over.
    pub(super) async fn receive(
        mut self,
        clock: &Clock,
        publisher: &mut mpsc::Receiver<PublisherEvent>,
    ) -> anyhow::Result<(Received, u64)> {
        let Plan { number, size, messages, .. } = *self.plan;
        let mut account = Account::new(messages);
        let mut samples = Vec::with_capacity(messages as usize);
        let mut bulk = self.bulk.take();
        let mut arrived = None;
        let mut sent = None;
        let end = tokio::time::sleep(Duration::MAX);
        tokio::pin!(end);
        let mut all = false;
        loop {
            let event = tokio::select! {
                event = self.messages.next() => Some(event.context("the subscription ended")??),
                event = next(&mut bulk), if arrived.is_none() => {
                    if let Event::Message(message) = event? {
                        if message.payload != payload(number, PROBE, self.plan.bulk.unwrap_or(0)) {
                            bail!("the large payload arrived corrupted");
                        }
                        arrived = Some(clock.start.elapsed());
                        if sent.is_some() && !all {
                            end.as_mut().reset(tokio::time::Instant::now() + STRAGGLERS);
                        }
                    }
                    continue;
                }
                event = publisher.recv(), if sent.is_none() => match event {
                    Some(PublisherEvent::Sent(number)) => {
                        sent = Some(number);
                        let behind = bulk.is_some() && arrived.is_none();
                        let wait = if behind { BULK } else { STRAGGLERS };
                        end.as_mut().reset(tokio::time::Instant::now() + wait);
                        None
                    }
                    Some(PublisherEvent::Failed(error)) => return Err(error.context("the publisher")),
                    _ => bail!("the publisher ended"),
                },
                () = &mut end => break,
            };
            let now = Instant::now();
            match event {
                Some(Event::Message(message)) => {
                    let index = account.message(recognise(number, size, &message.payload));
                    samples.extend(index.map(|index| {
                        let due = clock.due(index);
                        let latency = now.saturating_duration_since(due);
                        Sample { due: due - clock.start, latency }
                    }));
                }
                Some(Event::Gap(gap)) => account.gap(&gap),
                Some(other) => bail!("expected a message, got {other:?}"),
                None => {}
            }
            if !all && sent.is_some_and(|sent| account.missing(sent) == 0) {
                all = true;
                end.as_mut().reset(tokio::time::Instant::now() + COPIES);
            }
        }
        let bulk = bulk.map(|(_, delivery)| Bulk { delivery, arrived });
        let stats = self.messages.stats();
        let counted = (self.plan.delivery == Delivery::Realtime).then_some(stats);
        let repeated = counted.map(|stats| stats.repeated);
        let repaired = counted.map(|stats| stats.repaired);
        let received = Received { account, samples, bulk, repeated, repaired };
        Ok((received, sent.unwrap_or(0)))
    }
}

// Never returns without a large payload.
async fn next(bulk: &mut Option<(Subscription, Delivery)>) -> anyhow::Result<Event> {
    match bulk {
        None => std::future::pending().await,
        Some((subscription, _)) => Ok(subscription
            .next()
            .await
            .context("the subscription of the large payload ended")??),
    }
}
