//! `weir bench idle`: the cost of idle sessions.

mod arguments;
mod report;
mod scrape;

pub(crate) use arguments::Arguments;

use super::daemon::Daemon;
use super::interrupt::unless_interrupted;
use super::sessions::{self, SmallPages};
use super::stats::Sorted;
use super::traffic::{payload, recognise};
use super::units::usage;
use super::{open_files, progress};
use crate::client::{Reconnect, Subscription};
use crate::console::in_full;
use crate::{Client, Event, SubscribeOptions, Transport, Trust};
use anyhow::{Context as _, bail};
use report::{Figures, Report};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Time from the last handshake to the start of the measurement: the work that follows a handshake
/// is done by then. A tenth of `--duration` if that is shorter.
const SETTLE: Duration = Duration::from_secs(2);

/// Maximum time in which a session must receive the message and the answer to its ping.
const PATIENCE: Duration = Duration::from_secs(30);

const TOPIC: &str = "idle";

/// Size of the message that is sent at the end, bytes.
const SIZE: usize = 100;

/// Sessions above which the daemon's limit is raised; its default is 65,536.
const MANY: u64 = 60_000;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    usage(arguments.check());
    open_files::allow(arguments.sessions)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new(arguments);
    let result = runtime.block_on(unless_interrupted(async {
        for transport in arguments.carriers.transports() {
            let figures = one(arguments, transport, runtime.handle()).await;
            report.add(figures.with_context(|| transport.to_string())?)?;
        }
        Ok(())
    }));
    runtime.shutdown_background();
    result?;
    report.finish()
}

/// A session, with a subscription if `--subscribe` is given.
struct Session {
    client: Client,
    subscription: Option<Subscription>,
}

impl Session {
    async fn open(
        (server, trust): (String, Trust),
        transport: Transport,
        subscribe: bool,
    ) -> anyhow::Result<Self> {
        let builder = Client::builder(server).transport(transport).trust(trust);
        let client = builder.reconnect(Reconnect::never()).connect().await?;
        let mut session = Self { client, subscription: None };
        if subscribe {
            let options = SubscribeOptions::default();
            session.subscription = Some(session.client.subscribe(TOPIC, &options).await?);
        }
        Ok(session)
    }

    /// Fails unless the session receives the message, if it is subscribed, and the answer to a
    /// ping.
    async fn is_served(&mut self) -> anyhow::Result<()> {
        if let Some(subscription) = &mut self.subscription {
            match subscription.next().await.context("the subscription ended")?? {
                Event::Message(message) if recognise(0, SIZE, &message.payload) == Some(0) => {}
                other => bail!("expected the message, got {other:?}"),
            }
        }
        self.client.ping().await?;
        Ok(())
    }
}

async fn one(
    arguments: &Arguments,
    transport: Transport,
    runtime: &Handle,
) -> anyhow::Result<Figures> {
    let sessions = arguments.sessions;
    let more = [("WEIR_LIMITS__SESSIONS", (sessions + 16).to_string())];
    let settings = if sessions > MANY { &more[..] } else { &[] };
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let daemon = Daemon::start_with(listen, None, settings, "127.0.0.1:0")?;
    let _small = SmallPages::only();
    let process = &daemon.process;
    let target = (daemon.address.to_string(), Trust::Pinned(daemon.hash.into()));
    let (empty, usage) = (process.memory(), process.usage());
    let begun = Instant::now();
    let bar = progress::sessions(sessions);
    let subscribe = arguments.subscribe;
    let open = |_| Session::open(target.clone(), transport, subscribe);
    let opened = sessions::open(runtime, sessions, &bar, open).await;
    bar.finish_and_clear();
    let opened = opened?;
    let opening = begun.elapsed();
    let opening_cpu = process.usage().cpu_since(&usage);

    tokio::time::sleep(SETTLE.min(arguments.duration / 10)).await;
    let (memory, usage) = (process.memory(), process.usage());
    idle(arguments.duration).await;
    let (idle_usage, idle_memory) = (process.usage(), process.memory());
    let ops = daemon.ops.context("the daemon has no metrics")?;
    let scrapes = runtime.spawn_blocking(move || scrape::times(ops)).await??;

    let publisher = Session::open(target, transport, false).await?;
    let begun = Instant::now();
    if subscribe {
        publisher.client.publish(TOPIC, payload(0, 0, SIZE)).await?;
    }
    let (answers, lost) = ask(opened, runtime, begun).await?;
    Ok(Figures {
        transport,
        sessions,
        opening,
        opening_cpu,
        empty: empty.now,
        opened: memory.now,
        idled: idle_memory.now,
        peak: process.memory().peak,
        idle: arguments.duration,
        idle_cpu: idle_usage.cpu_since(&usage),
        waits: idle_usage.waits_since(&usage),
        scrapes,
        answers,
        lost,
    })
}

// The time at which each session was served, ns after `begun`, and the errors of the others.
async fn ask(
    opened: Vec<Session>,
    runtime: &Handle,
    begun: Instant,
) -> anyhow::Result<(Sorted, Vec<String>)> {
    let asking: Vec<_> = opened
        .into_iter()
        .map(|mut session| {
            runtime.spawn(async move {
                let served = timeout(PATIENCE, session.is_served()).await;
                let took = begun.elapsed();
                (session, served.unwrap_or_else(|_| bail!("no answer")).map(|()| took))
            })
        })
        .collect();
    // No session ends before all are served.
    let (mut sessions, mut answers, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for answer in asking {
        let (session, served) = answer.await?;
        match served {
            Ok(took) => answers.push(took.as_nanos() as u64),
            Err(error) => lost.push(in_full(&error)),
        }
        sessions.push(session);
    }
    Ok((Sorted::new(answers), lost))
}

async fn idle(duration: Duration) {
    let bar = progress::time(duration);
    let begun = Instant::now();
    while begun.elapsed() < duration {
        bar.set_position(begun.elapsed().as_millis() as u64);
        let left = duration.saturating_sub(begun.elapsed());
        tokio::time::sleep(left.min(Duration::from_millis(500))).await;
    }
    bar.finish_and_clear();
}
