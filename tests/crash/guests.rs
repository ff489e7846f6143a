//! Peers that come and go while the honest ones work: some leave, some read slowly or not at all, and
//! some vanish without a close. None of them may cost the daemon anything for long.

use crate::common::TRANSPORTS;
use crate::http::ask;
use crate::ledger::{Shown, View};
use crate::link::{Link, Mode};
use crate::lossy::Random;
use crate::native;
use crate::relay::Target;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use weir::client::Reconnect;
use weir::wire::Delivery;
use weir::{Event, Start, SubscribeOptions, Transport};

/// How long a link is kept that is gone: longer than the daemon waits for a silent peer.
const SILENCE: Duration = Duration::from_secs(60);

/// Maximum time for each step of a guest, which may meet a daemon that is not there.
const STEP: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Subscribes from the past, reads for a while, and leaves.
    Visitor,
    /// Reads an event now and then.
    Slow,
    /// Never polls its subscription.
    Unread,
    /// Never reads its stream of events.
    Silent,
    /// Its network drops everything while it receives and publishes. It closes nothing.
    Vanishing,
    /// Publishes payloads of 1 MiB, and leaves in the middle of one.
    Large,
}

const KINDS: [Kind; 6] =
    [Kind::Visitor, Kind::Slow, Kind::Unread, Kind::Silent, Kind::Vanishing, Kind::Large];

/// How many guests of each kind came, and how many of them found no daemon.
#[derive(Debug, Default)]
pub struct Counts {
    came: [AtomicU64; KINDS.len()],
    refused: AtomicU64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (kind, came) in KINDS.iter().zip(&self.came) {
            write!(f, "{kind:?} {}, ", came.load(Relaxed))?;
        }
        write!(f, "{} found no daemon or lost it", self.refused.load(Relaxed))
    }
}

struct Guest {
    target: Target,
    shown: Shown,
    transport: Transport,
    delivery: Delivery,
    start: Start,
    stay: Duration,
}

/// Lets guests come, one every `every`, until `stop`. Returns when all have left.
pub async fn come(
    target: Target,
    shown: Shown,
    mut random: Random,
    every: Duration,
    stop: Arc<AtomicBool>,
) -> Counts {
    let (counts, mut guests) = (Arc::new(Counts::default()), JoinSet::new());
    while !stop.load(Relaxed) {
        let kind = random.below(KINDS.len() as u64) as usize;
        let starts = [Start::New, Start::Latest, Start::All, Start::Last(10)];
        let modes = [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];
        let guest = Guest {
            target: target.clone(),
            shown: shown.clone(),
            transport: TRANSPORTS[random.below(3) as usize],
            delivery: modes[random.below(3) as usize],
            start: starts[random.below(4) as usize].clone(),
            stay: Duration::from_millis(500 + random.below(15_000)),
        };
        counts.came[kind].fetch_add(1, Relaxed);
        let counts = counts.clone();
        guests.spawn(async move {
            if guest.visit(KINDS[kind]).await.is_none() {
                counts.refused.fetch_add(1, Relaxed);
            }
        });
        while let Some(left) = guests.try_join_next() {
            left.unwrap();
        }
        sleep(every).await;
    }
    while let Some(left) = guests.join_next().await {
        left.unwrap();
    }
    Arc::into_inner(counts).unwrap()
}

impl Guest {
    // Returns `None` if there is no daemon, or not for long enough.
    async fn visit(self, kind: Kind) -> Option<()> {
        match kind {
            Kind::Visitor => self.read(Duration::ZERO).await,
            Kind::Slow => self.read(Duration::from_millis(50)).await,
            Kind::Unread => {
                let (client, subscription) = self.subscribed(&self.target).await?;
                sleep(self.stay).await;
                drop((client, subscription));
                Some(())
            }
            Kind::Silent => {
                let request = ask(self.target.http, "GET", "/v1/events/**?from=all");
                let stream = timeout(STEP, request.try_events()).await.ok()??;
                sleep(self.stay).await;
                drop(stream);
                Some(())
            }
            Kind::Vanishing => self.vanish().await,
            Kind::Large => self.publish().await,
        }
    }

    async fn client(&self, target: &Target) -> Option<weir::Client> {
        let builder = target.builder(self.transport).reconnect(Reconnect::never());
        timeout(STEP, builder.connect()).await.ok()?.ok()
    }

    async fn subscribed(
        &self,
        target: &Target,
    ) -> Option<(weir::Client, weir::client::Subscription)> {
        let client = self.client(target).await?;
        let options = SubscribeOptions::from(self.start.clone()).with_delivery(self.delivery);
        let subscription = timeout(STEP, client.subscribe("**", &options)).await.ok()?.ok()?;
        Some((client, subscription))
    }

    // Reads with this pause between two events. What it gets has to be what others got.
    async fn read(&self, pause: Duration) -> Option<()> {
        let (client, mut subscription) = self.subscribed(&self.target).await?;
        let name = format!("guest over {} {:?}", self.transport, self.delivery);
        let view = View::new(name, "**", self.delivery == Delivery::Ordered, &self.shown);
        let reading = async {
            while let Some(Ok(event)) = subscription.next().await {
                // It may have been too slow, or have begun in the past.
                if !matches!(event, Event::Gap(_)) {
                    native::take(&view, event);
                }
                if !pause.is_zero() {
                    sleep(pause).await;
                }
            }
        };
        let stayed = timeout(self.stay, reading).await.is_err();
        drop(client);
        stayed.then_some(())
    }

    async fn vanish(&self) -> Option<()> {
        let link = Link::start(self.target.listen).await;
        let target = Target { listen: link.address, udp: link.address, ..self.target.clone() };
        let (client, mut subscription) = self.subscribed(&target).await?;
        let _ = timeout(self.stay, subscription.next()).await;
        // In the middle of a large payload.
        let pending = client.send("guest/cut", vec![b'x'; 1 << 20]).await;
        link.set(Mode::Gone);
        drop((pending, subscription, client));
        sleep(SILENCE).await;
        link.set(Mode::Dead);
        Some(())
    }

    async fn publish(&self) -> Option<()> {
        let client = self.client(&self.target).await?;
        for n in 0_u64..5 {
            let mut payload = vec![b'x'; 1 << 20];
            payload[..8]
                .copy_from_slice(&n.wrapping_mul(self.stay.as_millis() as u64).to_be_bytes());
            timeout(STEP, client.publish("guest/large", payload)).await.ok()?.ok()?;
            sleep(self.stay / 10).await;
        }
        let pending = client.send("guest/large", vec![b'y'; 1 << 20]).await.ok()?;
        tokio::task::yield_now().await;
        drop((pending, client));
        Some(())
    }
}
