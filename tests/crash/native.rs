//! Publishers and subscribers that use the client.

use crate::ledger::{Acknowledged, Publications, SharedView, Shown, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, sleep};
use weir::client::{PublishError, Subscription};
use weir::wire::{Code, Delivery, Digest, GapCause};
use weir::{Client, Event, SubscribeOptions};

/// Applies an event.
pub fn take(view: &SharedView, event: Event) {
    let mut view = view.lock().unwrap();
    match event {
        Event::Message(message) => {
            let digest = Digest::of(&message.payload);
            view.message(&message.topic, Some(message.epoch), message.sequence, digest);
        }
        Event::Gap(gap) => match gap.cause {
            GapCause::Lost => view.lost(&gap.topic, gap.epoch, gap.first, gap.last),
            GapCause::Aborted => view.aborted(&gap.topic, gap.epoch, gap.first, gap.last),
            _ => view.gap(format!("{gap:?}")),
        },
        Event::Interrupted(_) => view.ends += 1,
        other => panic!("{other:?}"),
    }
}

/// Reads until the task is aborted.
async fn read(client: Client, mut events: Subscription, view: SharedView) {
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(&view, event),
            Err(error) => {
                let name = view.lock().unwrap().name.clone();
                panic!("{name}: {error:?}");
            }
        }
    }
    drop(client);
}

/// Subscribes from now on, and reads in a task.
pub async fn subscribe(
    tasks: &mut JoinSet<()>,
    client: Client,
    filter: &str,
    delivery: Delivery,
    shown: &Shown,
) -> SharedView {
    let options = SubscribeOptions::default().with_delivery(delivery);
    let events = client.subscribe(filter, &options).await.unwrap();
    let name = format!("{} {delivery:?} {filter}", client.transport());
    let view = View::new(name, filter, delivery == Delivery::Ordered, shown);
    tasks.spawn(read(client, events, view.clone()));
    view
}

/// What a publisher publishes, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    pub every: Duration,
    /// Each of so many publications is above 64 KiB.
    pub large: u64,
    pub size: usize,
    /// Every other publication is sent in a datagram.
    pub realtime: bool,
}

impl Traffic {
    /// Returns a payload, and whether others may overtake it. Each tenth comes again and again, so
    /// that it is counted.
    pub fn payload(&self, topic: &str, number: u64) -> (Vec<u8>, bool) {
        let large = number.is_multiple_of(self.large);
        let mut payload = match number % 10 {
            _ if large => format!("{topic} {number} large ").into_bytes(),
            3 => b"again".to_vec(),
            _ => format!("{topic} {number} ").into_bytes(),
        };
        if large {
            payload.resize(self.size, b'.');
        } else if number % 10 == 7 {
            payload.resize(1000, b'.');
        }
        (payload, large)
    }
}

/// Publishes at a steady rate until `stop`, and then waits for the answers. Returns the number of
/// publications.
pub fn publish(
    client: Client,
    publications: Arc<Publications>,
    traffic: Traffic,
    stop: Arc<AtomicBool>,
) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let topic = publications.topic.clone();
        let (mut number, mut answers, mut ticks) = (0, JoinSet::new(), interval(traffic.every));
        while !stop.load(Relaxed) {
            ticks.tick().await;
            number += 1;
            let (payload, overtaken) = traffic.payload(&topic, number);
            let (digest, publications) = (Digest::of(&payload), publications.clone());
            let acknowledged = Acknowledged { digest, receipt: None, overtaken };
            if traffic.realtime && number % 2 == 0 {
                let accepted = again(|| client.send_realtime(&topic, payload.clone())).await;
                answers.spawn(async move {
                    accepted.await.unwrap();
                    publications.acknowledge(number, acknowledged);
                });
            } else {
                let pending = again(|| client.send(&topic, payload.clone())).await;
                let (client, topic) = (client.clone(), topic.clone());
                answers.spawn(async move {
                    let (mut answer, mut overtaken) = (pending.await, overtaken);
                    while is_unavailable(answer.as_ref().err()) {
                        sleep(Duration::from_millis(50)).await;
                        overtaken = true;
                        answer = again(|| client.send(&topic, payload.clone())).await.await;
                    }
                    let receipt = answer.unwrap();
                    let receipt =
                        (receipt.sequence > 0).then_some((receipt.sequence, receipt.count));
                    publications
                        .acknowledge(number, Acknowledged { receipt, overtaken, ..acknowledged });
                });
            }
            while answers.try_join_next().is_some_and(|answer| answer.map(|()| true).unwrap()) {}
        }
        while let Some(answer) = answers.join_next().await {
            answer.unwrap();
        }
        client.close().await;
        number
    })
}

// While the client is away from its daemon it keeps so many publications and no more.
async fn again<T, F: Future<Output = Result<T, PublishError>>>(mut send: impl FnMut() -> F) -> T {
    loop {
        match send().await {
            Ok(sent) => return sent,
            Err(PublishError::Backlog { .. }) => sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

// The daemon's journal cannot keep it at the moment.
fn is_unavailable(error: Option<&PublishError>) -> bool {
    matches!(error, Some(PublishError::Refused(refusal)) if refusal.code == Code::UNAVAILABLE)
}
