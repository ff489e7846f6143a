//! A turn of a lane: a server, sessions, messages, and their cost.

use super::arguments::{Arguments, Rate, WARM_UP};
use super::figures::Figures;
use super::lane::Lane;
use super::publisher::{self, Pace, Sent};
use super::server::{Receiver, Sender, Server, Target};
use super::subscriber::{Flow, Progress, Tally, follow};
use crate::bench::prng::Random;
use crate::bench::process::Usage;
use crate::bench::sessions::{self, SmallPages};
use crate::bench::traffic::{PROBE, payload};
use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Time from the first messages to those that are measured, for the work that a thousand handshakes
/// leave behind.
const SETTLE: Duration = Duration::from_secs(1);

/// Maximum time for the first messages to reach all subscribers.
const PROBES: Duration = Duration::from_secs(30);

/// Maximum time from the last publication until a message is counted as missing.
const STRAGGLERS: Duration = Duration::from_secs(10);

/// Time to wait for duplicates after everything has arrived once.
const COPIES: Duration = Duration::from_millis(100);

/// Interval between looks whether everything has arrived.
const POLL: Duration = Duration::from_millis(1);

/// Maximum time for the tasks of a lane to end.
const END: Duration = Duration::from_secs(10);

/// Separate runtimes, so that subscribers and publishers do not wait for one another. Each lane has
/// its own, so that none of its tasks runs while the next lane is measured.
pub(super) struct Runtimes {
    subscribers: Runtime,
    publishers: Runtime,
}

impl Runtimes {
    pub(super) fn new() -> anyhow::Result<Self> {
        let subscribers = Builder::new_multi_thread().enable_all().build()?;
        let publishers = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { subscribers, publishers })
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.subscribers.block_on(future)
    }

    /// Waits until all tasks have ended.
    pub(super) fn end(self) {
        self.subscribers.shutdown_timeout(END);
        self.publishers.shutdown_timeout(END);
    }
}

struct Following {
    flow: Arc<Flow>,
    tasks: JoinSet<anyhow::Result<Tally>>,
    stop: watch::Sender<bool>,
}

impl Following {
    fn start(flow: Flow, receivers: Vec<Receiver>) -> Self {
        let (flow, mut tasks) = (Arc::new(flow), JoinSet::new());
        let (stop, stopped) = watch::channel(false);
        for (place, mut receiver) in receivers.into_iter().enumerate() {
            let (flow, mut stopped) = (flow.clone(), stopped.clone());
            tasks.spawn(async move {
                let mut tally = Tally::new(&flow);
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stop| *stop) => {}
                    ended = follow(&mut receiver, &flow, place, &mut tally) => ended?,
                }
                anyhow::Ok(tally)
            });
        }
        Self { flow, tasks, stop }
    }

    /// Waits until all subscribers have this count. Returns false if they do not within `patience`.
    async fn wait(
        &mut self,
        of: fn(&Progress) -> &AtomicU64,
        count: u64,
        patience: Duration,
    ) -> anyhow::Result<bool> {
        let begun = Instant::now();
        while !self.flow.all(of, count) {
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
                bail!("a subscriber stopped");
            }
            if begun.elapsed() > patience {
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(true)
    }

    async fn stop(mut self) -> anyhow::Result<Vec<Tally>> {
        let _ = self.stop.send(true);
        let mut all = Vec::new();
        while let Some(tally) = self.tasks.join_next().await {
            all.push(tally??);
        }
        Ok(all)
    }
}

/// Measures a lane. The server starts in the calling thread, and ends before this returns.
pub(super) async fn run(
    arguments: &Arguments,
    lane: Lane,
    round: u64,
    runtimes: &Runtimes,
    bar: &ProgressBar,
) -> anyhow::Result<Figures> {
    let server = Server::start(lane, bar.position() == 0)?;
    let _small = SmallPages::only();
    let process = server.process();
    let idle = process.memory();
    let (senders, receivers) = sessions(arguments, &server.target(), runtimes).await?;
    let messages = arguments.messages().map(|each| each * arguments.senders());
    let run = Random::new(round, &[]).next();
    let peers = (arguments.senders(), arguments.subscribers);
    let warm_up = WARM_UP.as_nanos() as u64;
    let flow = Flow::new(run, peers, arguments.size.0 as usize, messages, warm_up);
    let mut following = Following::start(flow, receivers);
    for (publisher, sender) in (0..).zip(&senders) {
        sender
            .publish(payload(run.wrapping_add(publisher), PROBE, arguments.size.0 as usize))
            .await?;
    }
    if !following.wait(|progress| &progress.probes, peers.0, PROBES).await? {
        bail!("the first messages do not arrive");
    }
    let standing = process.memory();
    tokio::time::sleep(SETTLE).await;
    let (usage, own) = (process.usage(), Usage::own());
    let begun = following.flow.now();
    // The senders are kept until the end: a session that ends drops the messages it has in flight.
    let sent = publish(arguments, senders.clone(), &mut following, runtimes, bar).await?;
    following.wait(|progress| &progress.done, sent.messages, STRAGGLERS).await?;
    tokio::time::sleep(COPIES).await;
    let (usage_after, own_after, memory) = (process.usage(), Usage::own(), process.memory());
    let tally = following.stop().await?;
    drop(senders);
    Ok(Figures::new(arguments, tally, sent, begun)
        .cost(usage_after.cpu_since(&usage), usage_after.waits_since(&usage))
        .load(own_after.cpu_since(&own))
        .memory(idle.now, standing.now, memory.peak))
}

// Opens the sessions that publish and those that are subscribed.
async fn sessions(
    arguments: &Arguments,
    target: &Target,
    runtimes: &Runtimes,
) -> anyhow::Result<(Vec<Sender>, Vec<Receiver>)> {
    let bar = ProgressBar::hidden();
    let subscribing = |_| {
        let target = target.clone();
        async move { target.subscriber().await }
    };
    let subscribers = runtimes.subscribers.handle();
    let both = sessions::open(subscribers, arguments.subscribers, &bar, subscribing).await;
    let (mut senders, receivers): (Vec<_>, Vec<_>) =
        both.context("subscribers")?.into_iter().unzip();
    if !arguments.chat {
        let publishing = |_| {
            let target = target.clone();
            async move { target.publisher().await }
        };
        let publishers = runtimes.publishers.handle();
        let opened = sessions::open(publishers, arguments.publishers, &bar, publishing).await;
        senders = opened.context("publishers")?;
    }
    Ok((senders, receivers))
}

// Returns when everything is sent. Fails if a subscriber ends before.
async fn publish(
    arguments: &Arguments,
    senders: Vec<Sender>,
    following: &mut Following,
    runtimes: &Runtimes,
    bar: &ProgressBar,
) -> anyhow::Result<Sent> {
    let pace = match arguments.rate {
        Rate::Hz(hz) => Pace::Every(Duration::from_secs_f64(1.0 / hz)),
        Rate::Max => Pace::Window(arguments.duration, arguments.window),
    };
    let runtime = runtimes.publishers.handle().clone();
    let result = publisher::start(runtime, senders, following.flow.clone(), pace)?;
    tokio::pin!(result);
    let before = bar.position();
    let begun = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let sent = loop {
        tokio::select! {
            sent = &mut result => break sent.context("the publisher ended")??,
            Some(ended) = following.tasks.join_next() => {
                ended??;
                bail!("a subscriber stopped");
            }
            _ = tick.tick() => {
                let passed = begun.elapsed().min(arguments.duration);
                bar.set_position(before + passed.as_millis() as u64);
            }
        }
    };
    bar.set_position(before + arguments.duration.as_millis() as u64);
    Ok(sent)
}
