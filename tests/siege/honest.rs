//! Honest peers, and what they observe.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use weir::client::Subscription;
use weir::{Client, Event, SubscribeOptions, Transport, Trust};

/// Interval of the publications: 100 messages of 200 bytes a second.
const EVERY: Duration = Duration::from_millis(10);
const SIZE: usize = 200;

/// Maximum time until a message counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Interval at which a reader checks for the end.
const STEP: Duration = Duration::from_millis(200);

/// The observations of one pair.
pub struct Pair {
    pub transport: Transport,
    topic: String,
    begun: Instant,
    /// Time from when a message was due to its arrival, microseconds.
    latencies: Mutex<Vec<u32>>,
    /// Time from when the publisher started to send a message to its arrival, microseconds.
    relayed: Mutex<Vec<u32>>,
    /// The publisher's own delay, while other processes had the processors, microseconds.
    late: Mutex<Vec<u32>>,
    pub sent: AtomicU64,
    pub receipts: AtomicU64,
    pub received: AtomicU64,
    /// Messages that were reported as gaps, out of order, repeated or refused, and ends of
    /// sessions.
    faults: Mutex<Vec<String>>,
    stop: AtomicBool,
    all_sent: AtomicBool,
}

/// The address of the daemon, and how to connect to it.
#[derive(Clone)]
pub struct Target {
    pub server: String,
    pub hash: String,
}

impl Target {
    pub async fn connect(&self, transport: Transport) -> Client {
        let trust = Trust::Pinned(self.hash.parse().unwrap());
        let builder = Client::builder(&*self.server).trust(trust).transport(transport);
        timeout(PATIENCE, builder.reconnect(weir::client::Reconnect::never()).connect())
            .await
            .expect("no answer")
            .unwrap()
    }
}

impl Pair {
    pub fn new(transport: Transport) -> Arc<Self> {
        Arc::new(Self {
            transport,
            topic: format!("honest/{transport}"),
            begun: Instant::now(),
            latencies: Mutex::default(),
            relayed: Mutex::default(),
            late: Mutex::default(),
            sent: AtomicU64::new(0),
            receipts: AtomicU64::new(0),
            received: AtomicU64::new(0),
            faults: Mutex::default(),
            stop: AtomicBool::new(false),
            all_sent: AtomicBool::new(false),
        })
    }

    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    /// Returns the latencies since the last call.
    pub fn latencies(&self) -> Vec<u32> {
        std::mem::take(&mut *self.latencies.lock().unwrap())
    }

    /// Returns the part of them after the publisher started to send, since the last call.
    pub fn relayed(&self) -> Vec<u32> {
        std::mem::take(&mut *self.relayed.lock().unwrap())
    }

    /// Returns the delays of the publisher since the last call.
    pub fn late(&self) -> Vec<u32> {
        std::mem::take(&mut *self.late.lock().unwrap())
    }

    fn fault(&self, what: String) {
        let Self { transport, .. } = self;
        let seconds = self.begun.elapsed().as_secs();
        println!("fault of {transport} at {seconds} s: {what}");
        self.faults.lock().unwrap().push(what);
    }

    /// Publishes and reads until `stop` is set and everything has arrived.
    pub async fn run(self: Arc<Self>, target: Target) {
        let subscriber = target.connect(self.transport).await;
        let options = SubscribeOptions::default();
        let subscription = subscriber.subscribe(&self.topic, &options).await.unwrap();
        let publisher = target.connect(self.transport).await;
        let reading = tokio::spawn(self.clone().read(subscription));
        self.publish(&publisher).await;
        reading.await.unwrap();
        // Both sessions are the first ones and are still open.
        for client in [publisher, subscriber] {
            if let Err(error) = client.publish("honest/last", vec![0; SIZE]).await {
                self.fault(format!("the session did not last: {error}"));
            }
        }
    }

    async fn publish(self: &Arc<Self>, client: &Client) {
        let mut beat = interval(EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut receipts = tokio::task::JoinSet::new();
        for number in 1_u64.. {
            // The time at which the message was due: a publisher that must wait is late too.
            let due = beat.tick().await.duration_since(self.begun).as_micros() as u64;
            if self.stop.load(Relaxed) {
                break;
            }
            let now = self.begun.elapsed().as_micros() as u64;
            self.late.lock().unwrap().push(now.saturating_sub(due) as u32);
            let mut payload = vec![0; SIZE];
            payload[..8].copy_from_slice(&number.to_le_bytes());
            payload[8..16].copy_from_slice(&due.to_le_bytes());
            payload[16..24].copy_from_slice(&now.to_le_bytes());
            self.sent.store(number, Relaxed);
            match client.send(&self.topic, payload).await {
                Ok(pending) => {
                    let pair = self.clone();
                    receipts.spawn(async move {
                        match timeout(PATIENCE, pending).await {
                            Ok(Ok(receipt)) if receipt.sequence == number && !receipt.duplicate => {
                                pair.receipts.fetch_add(1, Relaxed);
                            }
                            other => pair.fault(format!("receipt of {number}: {other:?}")),
                        }
                    });
                }
                Err(error) => {
                    self.fault(format!("publishing {number}: {error}"));
                    break;
                }
            }
            while receipts.try_join_next().is_some() {}
        }
        self.all_sent.store(true, Relaxed);
        while receipts.join_next().await.is_some() {}
    }

    async fn read(self: Arc<Self>, mut subscription: Subscription) {
        let (mut next, mut quiet) = (1, Duration::ZERO);
        while !(self.all_sent.load(Relaxed) && next > self.sent.load(Relaxed)) {
            let Ok(event) = timeout(STEP, subscription.next()).await else {
                quiet += STEP;
                if quiet >= PATIENCE {
                    return self.fault(format!("{next} and what follows did not come"));
                }
                continue;
            };
            quiet = Duration::ZERO;
            match event {
                Some(Ok(Event::Message(message))) => {
                    let now = self.begun.elapsed().as_micros() as u64;
                    let of = |at: usize| {
                        u64::from_le_bytes(message.payload[at..at + 8].try_into().unwrap())
                    };
                    if message.sequence != next || of(0) != next {
                        let (sequence, number) = (message.sequence, of(0));
                        self.fault(format!("{sequence} (number {number}) in place of {next}"));
                    }
                    next = message.sequence + 1;
                    self.received.fetch_add(1, Relaxed);
                    self.latencies.lock().unwrap().push((now - of(8)) as u32);
                    self.relayed.lock().unwrap().push((now - of(16)) as u32);
                }
                Some(Ok(other)) => {
                    self.fault(format!("{other:?} in place of {next}"));
                    if let Event::Gap(gap) = other {
                        next = gap.last + 1;
                    }
                }
                Some(Err(error)) => return self.fault(format!("the subscription: {error}")),
                None => return self.fault("the subscription ended".into()),
            }
        }
    }
}

/// Subscribes again and again, and must be woken each time. State that ended subscriptions of other
/// sessions leave behind must not prevent it.
#[derive(Default)]
pub struct Newcomer {
    pub received: AtomicU64,
    pub silent: AtomicU64,
    pub stop: AtomicBool,
    pub done: AtomicBool,
}

impl Newcomer {
    pub async fn run(self: Arc<Self>, target: Target) {
        let client = target.connect(Transport::Quic).await;
        let options = SubscribeOptions::default();
        let mut subscriptions = Vec::new();
        while !self.stop.load(Relaxed) {
            for filter in ["honest/quic", "honest/websocket", "honest/*", "honest/**"] {
                subscriptions.push(client.subscribe(filter, &options).await.unwrap());
            }
            for mut subscription in subscriptions.drain(..) {
                match timeout(Duration::from_secs(10), subscription.next()).await {
                    Ok(Some(Ok(_))) => _ = self.received.fetch_add(1, Relaxed),
                    other => {
                        println!("a newcomer received {other:?}");
                        self.silent.fetch_add(1, Relaxed);
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        self.done.store(true, Relaxed);
    }
}
