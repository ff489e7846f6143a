//! The publishing side of a lane: a thread that keeps time, and hands each message over when it is
//! due, or when there is room for it; the runtime's own thread moves the bytes.

use super::server::Sender;
use super::subscriber::Flow;
use crate::bench::traffic::payload;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// When to send.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// A message of each publisher in this time, the publishers one after the other.
    Every(Duration),
    /// For this long, as long as no subscriber is further behind than so many messages.
    Window(Duration, u64),
}

/// How long to wait before looking again whether there is room: a few messages' time, and little
/// work for the machine.
const LOOK: Duration = Duration::from_micros(200);

/// What was sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) messages: u64,
    /// How late the latest was.
    pub(super) late: Duration,
}

/// Starts it. It ends when all is sent, or nobody waits for what it says.
pub(super) fn start(
    runtime: Handle,
    senders: Vec<Sender>,
    flow: Arc<Flow>,
    pace: Pace,
) -> std::io::Result<oneshot::Receiver<anyhow::Result<Sent>>> {
    let (mut says, said) = oneshot::channel();
    let run = move || {
        // The kernel may wake a thread 50 µs late to save power; not this one.
        let _ = nix::sys::prctl::set_timerslack(1);
        let sent = runtime.block_on(async {
            tokio::select! {
                biased;
                () = says.closed() => Ok(Sent::default()),
                sent = send(&senders, &flow, pace) => sent,
            }
        });
        // Nobody waits any more: nobody to tell.
        let _ = says.send(sent);
    };
    std::thread::Builder::new().name("publisher".into()).spawn(run)?;
    Ok(said)
}

async fn send(senders: &[Sender], flow: &Flow, pace: Pace) -> anyhow::Result<Sent> {
    let mut sent = Sent::default();
    let begun = flow.now();
    while sent.messages < flow.most {
        match pace {
            Pace::Every(period) => {
                let nanos = u128::from(sent.messages) * period.as_nanos();
                let due = begun + (nanos / senders.len() as u128) as u64;
                let wait = due.saturating_sub(flow.now());
                if wait > 0 {
                    std::thread::sleep(Duration::from_nanos(wait));
                }
                sent.late = sent.late.max(Duration::from_nanos(flow.now() - due));
            }
            Pace::Window(duration, window) => {
                let end = begun + duration.as_nanos() as u64;
                while flow.now() < end && sent.messages >= flow.slowest() + window {
                    std::thread::sleep(LOOK);
                }
                if flow.now() >= end {
                    break;
                }
            }
        }
        let publisher = sent.messages % flow.publishers;
        let index = sent.messages / flow.publishers;
        let message = payload(flow.run.wrapping_add(publisher), index, flow.size);
        flow.stamp(sent.messages).store(flow.now(), Ordering::Release);
        // Whether it was accepted, the subscribers know.
        senders[publisher as usize].publish(message).await?;
        sent.messages += 1;
        // So that whoever measures can stop it.
        tokio::task::consume_budget().await;
    }
    Ok(sent)
}
