//! The publishing side of a lane: an open-loop schedule, in its own thread and runtime.

use super::plan::{Clock, Phase, Plan, WARM_UP};
use crate::bench::traffic::{PROBE, payload, publish};
use crate::client::Reconnect;
use crate::console::in_full;
use crate::{Client, Transport, Trust};
use anyhow::Context as _;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// Time from the start to the publication of the large payload.
pub(super) const BULK_AFTER: Duration = WARM_UP;

/// The address of a daemon, and how to connect to it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) server: String,
    pub(super) trust: Trust,
    pub(super) transport: Transport,
}

impl Target {
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let builder = Client::builder(&*self.server).trust(self.trust.clone());
        let builder = builder.transport(self.transport).reconnect(Reconnect::never());
        Ok(builder.connect().await?)
    }
}

/// The reports of a publisher, in this order. A failure is the last.
#[derive(Debug)]
pub(super) enum PublisherEvent {
    /// The publisher is connected and has the receipt of its probe.
    Ready,
    /// It has sent all of its messages; this is their number.
    Sent(u64),
    Failed(anyhow::Error),
}

/// A running publisher. Dropping it ends its sessions.
pub(super) struct Publisher {
    pub(super) events: mpsc::Receiver<PublisherEvent>,
    release: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.release = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Publisher {
    /// Starts a publisher in the network namespace of the calling thread. It connects, and waits for
    /// the start.
    pub(super) fn start(
        plan: &Plan,
        target: &Target,
        phase: &watch::Receiver<Phase>,
    ) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel(2);
        let (release, mut released) = oneshot::channel();
        let (plan, target, phase) = (plan.clone(), target.clone(), phase.clone());
        let run = move || {
            if let Err(error) = run(&plan, &target, phase, &sender, &mut released) {
                let _ = sender.blocking_send(PublisherEvent::Failed(error));
            }
        };
        let thread = std::thread::Builder::new().name("publisher".into()).spawn(run);
        let thread = Some(thread.context("starting the publisher")?);
        Ok(Self { events, release: Some(release), thread })
    }
}

// This thread keeps time, and gives each message to the client when it is due. The runtime's own
// thread sends the bytes.
fn run(
    plan: &Plan,
    target: &Target,
    mut phase: watch::Receiver<Phase>,
    events: &mpsc::Sender<PublisherEvent>,
    released: &mut oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    // By default the kernel may wake a thread 50 µs late to save power.
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build()?;
    let prepared = async {
        let client = target.connect().await?;
        let probe = payload(plan.number, PROBE, plan.size);
        client.publish(&plan.topic, probe).await?;
        events.send(PublisherEvent::Ready).await?;
        anyhow::Ok(Clock::wait(&mut phase, plan).await.map(|clock| (client, clock)))
    };
    let prepared = runtime.block_on(async {
        tokio::select! {
            prepared = prepared => prepared,
            _ = &mut *released => Ok(None),
        }
    })?;
    let Some((client, clock)) = prepared else { return Ok(()) };
    if let Some(size) = plan.bulk {
        let (plan, target, at) = (plan.clone(), target.clone(), clock.start + BULK_AFTER);
        runtime.spawn(async move {
            if let Err(error) = send_bulk(&plan, &target, at, size).await {
                tracing::warn!("{}: the large payload: {}", plan.mode, in_full(&error));
            }
        });
    }
    for index in 0..plan.messages {
        let due = clock.due(index);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let message = payload(plan.number, index, plan.size);
        let going = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = &mut *released => Ok(false),
                // The receipt is not awaited: the subscriber counts the message.
                sent = publish(&client, plan.delivery, &plan.topic, message) => {
                    sent.map(|()| true)
                }
            }
        })?;
        if !going {
            return Ok(());
        }
    }
    events.blocking_send(PublisherEvent::Sent(plan.messages))?;
    // The session must live until the subscriber has everything.
    let _ = runtime.block_on(released);
    Ok(())
}

async fn send_bulk(plan: &Plan, target: &Target, at: Instant, size: usize) -> anyhow::Result<()> {
    let client = target.connect().await?;
    let bytes = payload(plan.number, PROBE, size);
    tokio::time::sleep_until(at.into()).await;
    client.publish(&plan.bulk_topic, bytes).await?;
    // Keeps the session open until the runtime ends.
    std::future::pending().await
}
