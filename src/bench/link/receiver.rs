//! The subscribing side of a lane: when each message came, and whether all did.

use super::lane::{Clock, Plan};
use super::publisher::Said;
use crate::bench::traffic::{Account, PROBE, payload, recognise};
use crate::client::{SubscribeError, Subscription};
use crate::wire::Delivery;
use crate::{Client, Event, Start, SubscribeOptions};
use anyhow::{Context as _, bail};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long a message may still come after the last was sent.
const STRAGGLERS: Duration = Duration::from_secs(10);

/// How long messages may come behind a large payload that is still under way when the last was
/// sent. What is queued there is not lost.
const BULK: Duration = Duration::from_secs(300);

/// How long copies may still come after everything has come once.
const COPIES: Duration = Duration::from_millis(500);

/// How long the first message may take, over a link that loses nothing yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message that came, the first time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// When it was due, after the start.
    pub(super) due: Duration,
    pub(super) latency: Duration,
}

/// What came.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) account: Account,
    pub(super) samples: Vec<Sample>,
    pub(super) bulk: Option<Bulk>,
    /// Copies that the client recognised, and losses that it had repaired; from its statistics,
    /// when it has some.
    pub(super) repeated: Option<u64>,
    pub(super) repaired: Option<u64>,
}

/// What became of the large payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bulk {
    pub(super) delivery: Delivery,
    /// When it had come, after the start; none if it was still under way at the end.
    pub(super) came: Option<Duration>,
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
        match first.context("the first message does not come")?.transpose()? {
            Some(Event::Message(message))
                if message.payload == payload(self.plan.number, PROBE, self.plan.size) =>
            {
                Ok(())
            }
            other => bail!("{other:?} in place of the first message"),
        }
    }

    /// Receives until everything has come that was sent, or does not come any more.
    pub(super) async fn receive(
        mut self,
        clock: &Clock,
        publisher: &mut mpsc::Receiver<Said>,
    ) -> anyhow::Result<(Received, u64)> {
        let Plan { number, size, messages, .. } = *self.plan;
        let mut account = Account::new(messages);
        let mut samples = Vec::with_capacity(messages as usize);
        let mut bulk = self.bulk.take();
        let mut came = None;
        let mut sent = None;
        let end = tokio::time::sleep(Duration::MAX);
        tokio::pin!(end);
        let mut all = false;
        loop {
            let event = tokio::select! {
                event = self.messages.next() => Some(event.context("the subscription ended")??),
                event = next(&mut bulk), if came.is_none() => {
                    if let Event::Message(message) = event? {
                        if message.payload != payload(number, PROBE, self.plan.bulk.unwrap_or(0)) {
                            bail!("the large payload came corrupted");
                        }
                        came = Some(clock.start.elapsed());
                        if sent.is_some() && !all {
                            end.as_mut().reset(tokio::time::Instant::now() + STRAGGLERS);
                        }
                    }
                    continue;
                }
                said = publisher.recv(), if sent.is_none() => match said {
                    Some(Said::Sent(number)) => {
                        sent = Some(number);
                        let behind = bulk.is_some() && came.is_none();
                        let wait = if behind { BULK } else { STRAGGLERS };
                        end.as_mut().reset(tokio::time::Instant::now() + wait);
                        None
                    }
                    Some(Said::Failed(error)) => return Err(error.context("the publisher")),
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
                None => {}
            }
            if !all && sent.is_some_and(|sent| account.missing(sent) == 0) {
                all = true;
                end.as_mut().reset(tokio::time::Instant::now() + COPIES);
            }
        }
        let bulk = bulk.map(|(_, delivery)| Bulk { delivery, came });
        let stats = self.messages.stats();
        let counted = (self.plan.delivery == Delivery::Realtime).then_some(stats);
        let repeated = counted.map(|stats| stats.repeated);
        let repaired = counted.map(|stats| stats.repaired);
        let received = Received { account, samples, bulk, repeated, repaired };
        Ok((received, sent.unwrap_or(0)))
    }
}

// For ever, if there is none.
async fn next(bulk: &mut Option<(Subscription, Delivery)>) -> anyhow::Result<Event> {
    match bulk {
        None => std::future::pending().await,
        Some((subscription, _)) => Ok(subscription
            .next()
            .await
            .context("the subscription of the large payload ended")??),
    }
}
