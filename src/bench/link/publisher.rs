//! The publishing side of a lane: an open-loop schedule, in a thread and a runtime of its own.

use super::lane::{Clock, Phase, Plan};
use crate::bench::traffic::{PROBE, payload, publish};
use crate::{Client, Transport, Trust};
use anyhow::Context as _;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// The large payload is published this long after the start.
pub(super) const BULK_AFTER: Duration = super::WARM_UP;

/// Where a daemon is, and how to reach it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) server: String,
    pub(super) trust: Trust,
    pub(super) transport: Transport,
}

impl Target {
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let builder = Client::builder(&*self.server).trust(self.trust.clone());
        Ok(builder.transport(self.transport).connect().await?)
    }
}

/// What a publisher says, in this order; nothing follows a failure.
#[derive(Debug)]
pub(super) enum Said {
    /// It has connected, and the probe has its receipt.
    Ready,
    /// It has sent all, which are so many.
    Sent(u64),
    Failed(anyhow::Error),
}

/// A running publisher. Its sessions end when it is dropped.
pub(super) struct Publisher {
    pub(super) says: mpsc::Receiver<Said>,
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
    /// Starts it in the calling thread's network namespace; it connects, and waits for the start.
    pub(super) fn start(
        plan: &Plan,
        target: &Target,
        phase: &watch::Receiver<Phase>,
    ) -> anyhow::Result<Self> {
        let (say, says) = mpsc::channel(2);
        let (release, mut released) = oneshot::channel();
        let (plan, target, phase) = (plan.clone(), target.clone(), phase.clone());
        let run = move || {
            if let Err(error) = run(&plan, &target, phase, &say, &mut released) {
                let _ = say.blocking_send(Said::Failed(error));
            }
        };
        let thread = std::thread::Builder::new().name("publisher".into()).spawn(run);
        let thread = Some(thread.context("a thread to publish")?);
        Ok(Self { says, release: Some(release), thread })
    }
}

// The thread keeps time, and hands each message over when it is due; the runtime's own thread
// moves the bytes.
fn run(
    plan: &Plan,
    target: &Target,
    mut phase: watch::Receiver<Phase>,
    say: &mpsc::Sender<Said>,
    released: &mut oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    // The kernel may wake a thread 50 µs late to save power; not this one.
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build()?;
    let prepared = async {
        let client = target.connect().await?;
        let probe = payload(plan.number, PROBE, plan.size);
        client.publish(&plan.topic, probe).await?;
        say.send(Said::Ready).await?;
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
                tracing::warn!("{}: the large payload: {error:#}", plan.mode);
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
                // Whether it was accepted, the subscriber knows.
                sent = publish(&client, plan.delivery, &plan.topic, message) => {
                    sent.map(|()| true)
                }
            }
        })?;
        if !going {
            return Ok(());
        }
    }
    say.blocking_send(Said::Sent(plan.messages))?;
    // The session is to live until the subscriber has all.
    let _ = runtime.block_on(released);
    Ok(())
}

async fn send_bulk(plan: &Plan, target: &Target, at: Instant, size: usize) -> anyhow::Result<()> {
    let client = target.connect().await?;
    let bytes = payload(plan.number, PROBE, size);
    tokio::time::sleep_until(at.into()).await;
    client.publish(&plan.bulk_topic, bytes).await?;
    // Not to end the session before the runtime does.
    std::future::pending().await
}
