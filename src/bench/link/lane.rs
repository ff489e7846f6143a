//! A lane: one mode of one run, with a daemon, a link and clients of its own.

use super::emulator::{Carried, Link};
use super::host::{FAR, Host, NEAR, has_congestion_control};
use super::plan::{Clock, Phase, Plan};
use super::publisher::{Publisher, PublisherEvent, Target};
use super::receiver::{Received, Receiver};
use crate::Trust;
use crate::bench::daemon::Daemon;
use crate::bench::report::Outcome;
use crate::client::SubscribeError;
use crate::console::in_full;
use crate::wire::PORT;
use anyhow::bail;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A lane drops it when it is ready to start. The run starts when all lanes have.
pub(super) type Ready = mpsc::Sender<Infallible>;

/// The measurements of a lane.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) received: Received,
    pub(super) sent: u64,
    pub(super) carried: Carried,
    /// CPU time of the daemon from the start to the end.
    pub(super) cpu: Option<Duration>,
    /// Packets that the kernel dropped because the emulator was too slow.
    pub(super) dropped: u64,
}

/// Runs a lane in the calling thread, and leaves the thread in another network namespace. Drops
/// `ready` when the lane is ready to start or cannot start. An error is a fault of the machine; a
/// mode that fails is an [`Outcome`].
pub(super) fn run(
    plan: &Plan,
    phase: &watch::Receiver<Phase>,
    ready: Ready,
) -> anyhow::Result<Outcome<Measured>> {
    if let Some(name) = plan.mode.congestion().filter(|name| !has_congestion_control(name)) {
        let why = format!("this kernel has no {name}: try `modprobe tcp_{name}`");
        return Ok(Outcome::Refused(why));
    }
    let near = Host::enter(NEAR, plan.mode.congestion())?;
    let daemon = Daemon::start((NEAR, PORT).into())?;
    let target = Target {
        server: daemon.address.to_string(),
        trust: Trust::Pinned(daemon.hash.into()),
        transport: plan.transport,
    };
    // A thread stays in the namespace in which it was started.
    let beside = (!plan.both_legs).then(|| Publisher::start(plan, &target, phase)).transpose()?;
    let far = Host::enter(FAR, plan.mode.congestion())?;
    let link = Link::join(&near.device, &far.device, &plan.link, plan.seed)?;
    let publisher = match beside {
        Some(publisher) => publisher,
        None => Publisher::start(plan, &target, phase)?,
    };
    let lane = Lane { plan, target, publisher, link, daemon };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut outcome = match runtime.block_on(lane.run(phase.clone(), ready)) {
        Ok(outcome) => outcome,
        Err(error) => match error.downcast_ref() {
            Some(SubscribeError::Refused(refusal)) => Outcome::Refused(refusal.to_string()),
            _ => Outcome::Failed(in_full(&error)),
        },
    };
    if let Outcome::Done(measured) = &mut outcome {
        measured.dropped = near.dropped()? + far.dropped()?;
    }
    Ok(outcome)
}

struct Lane<'a> {
    plan: &'a Plan,
    // Fields are dropped in this order: clients, link, daemon.
    target: Target,
    publisher: Publisher,
    link: Link,
    daemon: Daemon,
}

impl Lane<'_> {
    async fn run(
        mut self,
        mut phase: watch::Receiver<Phase>,
        ready: Ready,
    ) -> anyhow::Result<Outcome<Measured>> {
        let mut stopping = phase.clone();
        let stop = stopping.wait_for(|phase| matches!(phase, Phase::Stopping));
        tokio::select! {
            outcome = self.measure(&mut phase, ready) => outcome,
            _ = stop => Ok(Outcome::Failed("stopped".into())),
        }
    }

    async fn measure(
        &mut self,
        phase: &mut watch::Receiver<Phase>,
        ready: Ready,
    ) -> anyhow::Result<Outcome<Measured>> {
        let Self { plan, target, publisher, link, daemon } = self;
        let client = target.connect().await?;
        let mut receiver = Receiver::subscribe(client, plan).await?;
        match publisher.events.recv().await {
            Some(PublisherEvent::Ready) => {}
            Some(PublisherEvent::Failed(error)) => return Err(error.context("the publisher")),
            _ => bail!("the publisher ended"),
        }
        receiver.probe().await?;
        drop(ready);
        let Some(clock) = Clock::wait(phase, plan).await else {
            return Ok(Outcome::Failed("stopped".into()));
        };
        tokio::time::sleep_until(clock.start.into()).await;
        link.begin();
        let (usage, carried) = (daemon.process.usage(), link.carried());
        let (received, sent) = receiver.receive(&clock, &mut publisher.events).await?;
        let cpu = daemon.process.usage().cpu_since(&usage);
        let carried = link.carried().since(carried);
        Ok(Outcome::Done(Box::new(Measured { received, sent, carried, cpu, dropped: 0 })))
    }
}
