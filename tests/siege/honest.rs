//! Peers that keep their promises, and what they get for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use weir::client::Subscription;
use weir::{Client, Event, SubscribeOptions, Transport, Trust};

/// 100 messages of 200 bytes a second.
const EVERY: Duration = Duration::from_millis(10);
const SIZE: usize = 200;

/// What has not come by then will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A reader looks so often whether there is more to come.
const STEP: Duration = Duration::from_millis(200);

/// What one pair has seen.
pub struct Pair {
    pub transport: Transport,
    topic: String,
    begun: Instant,
    /// Microseconds from the moment at which each was to be sent to that at which it came.
    latencies: Mutex<Vec<u32>>,
    /// The same, from the moment at which the publisher came to send it.
    relayed: Mutex<Vec<u32>>,
    /// Of these, what the publisher itself was late by: other processes had the processors.
    late: Mutex<Vec<u32>>,
    pub sent: AtomicU64,
    pub receipts: AtomicU64,
    pub came: AtomicU64,
    /// Told as gaps, out of order, repeated, refused, or ended.
    faults: Mutex<Vec<String>>,
    stop: AtomicBool,
    all_sent: AtomicBool,
}

/// A way to the daemon.
#[derive(Clone)]
pub struct Way {
    pub server: String,
    pub hash: String,
}

impl Way {
    pub async fn connect(&self, transport: Transport) -> Client {
        let trust = Trust::Pinned(self.hash.parse().unwrap());
        let builder = Client::builder(&*self.server).trust(trust).transport(transport);
        timeout(PATIENCE, builder.connect()).await.expect("no answer").unwrap()
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
            came: AtomicU64::new(0),
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

    /// The latencies since this was asked last.
    pub fn latencies(&self) -> Vec<u32> {
        std::mem::take(&mut *self.latencies.lock().unwrap())
    }

    /// Of these, what came after the publisher had begun to send.
    pub fn relayed(&self) -> Vec<u32> {
        std::mem::take(&mut *self.relayed.lock().unwrap())
    }

    /// How late the publisher was, since this was asked last.
    pub fn late(&self) -> Vec<u32> {
        std::mem::take(&mut *self.late.lock().unwrap())
    }

    fn fault(&self, what: String) {
        let Self { transport, .. } = self;
        let seconds = self.begun.elapsed().as_secs();
        println!("fault of {transport} at {seconds} s: {what}");
        self.faults.lock().unwrap().push(what);
    }

    /// Publishes and reads until it is told to stop, and everything has come.
    pub async fn run(self: Arc<Self>, way: Way) {
        let subscriber = way.connect(self.transport).await;
        let options = SubscribeOptions::default();
        let subscription = subscriber.subscribe(&self.topic, &options).await.unwrap();
        let publisher = way.connect(self.transport).await;
        let reading = tokio::spawn(self.clone().read(subscription));
        self.publish(&publisher).await;
        reading.await.unwrap();
        // Everything came in these two sessions, which are still open.
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
            // When it was to be sent: a publisher that has to wait is late too.
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
                    self.came.fetch_add(1, Relaxed);
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

/// One that subscribes anew again and again, and is to be woken each time: what ended
/// subscriptions of others leave behind must not silence it.
#[derive(Default)]
pub struct Newcomer {
    pub came: AtomicU64,
    pub silent: AtomicU64,
    pub stop: AtomicBool,
    pub done: AtomicBool,
}

impl Newcomer {
    pub async fn run(self: Arc<Self>, way: Way) {
        let client = way.connect(Transport::Quic).await;
        let options = SubscribeOptions::default();
        let mut subscriptions = Vec::new();
        while !self.stop.load(Relaxed) {
            for filter in ["honest/quic", "honest/websocket", "honest/*", "honest/**"] {
                subscriptions.push(client.subscribe(filter, &options).await.unwrap());
            }
            for mut subscription in subscriptions.drain(..) {
                match timeout(Duration::from_secs(10), subscription.next()).await {
                    Ok(Some(Ok(_))) => _ = self.came.fetch_add(1, Relaxed),
                    other => {
                        println!("a newcomer heard {other:?}");
                        self.silent.fetch_add(1, Relaxed);
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        self.done.store(true, Relaxed);
    }
}
