//! The publishing side of a lane. A thread keeps time, and gives each message to its client when it
//! is due or when the window has room. The runtime's own thread sends the bytes.

use super::server::Sender;
use super::subscriber::Flow;
use crate::bench::traffic::payload;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The schedule of the publications.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// Each publisher sends a message in this time, the publishers one after the other.
    Every(Duration),
    /// Publishers send for this long, while no subscriber is more than this many messages behind.
    Window(Duration, u64),
}

/// Interval between looks whether the window has room: the time of a few messages, and little work
/// for the machine.
const POLL: Duration = Duration::from_micros(200);

/// The number of messages sent, and their delay.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) messages: u64,
    /// Maximum delay of a message after it was due.
    pub(super) late: Duration,
}

/// Starts the thread. It ends when everything is sent or when the returned receiver is dropped.
pub(super) fn start(
    runtime: Handle,
    senders: Vec<Sender>,
    flow: Arc<Flow>,
    pace: Pace,
) -> std::io::Result<oneshot::Receiver<anyhow::Result<Sent>>> {
    let (mut result, receiver) = oneshot::channel();
    let run = move || {
        // By default the kernel may wake a thread 50 µs late to save power.
        let _ = nix::sys::prctl::set_timerslack(1);
        let sent = runtime.block_on(async {
            tokio::select! {
                biased;
                () = result.closed() => Ok(Sent::default()),
                sent = send(&senders, &flow, pace) => sent,
            }
        });
        // Fails if the receiver was dropped.
        let _ = result.send(sent);
    };
    std::thread::Builder::new().name("publisher".into()).spawn(run)?;
    Ok(receiver)
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
                    std::thread::sleep(POLL);
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
        // The receipt is not awaited: the subscribers count the message.
        senders[publisher as usize].publish(message).await?;
        sent.messages += 1;
        // Yields now and then, so that the benchmark can be stopped.
        tokio::task::consume_budget().await;
    }
    Ok(sent)
}
