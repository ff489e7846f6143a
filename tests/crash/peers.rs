//! Twenty subscribers and four publishers, over all transports.

use crate::common::{PATIENCE, TRANSPORTS};
use crate::ledger::{Publications, SharedView, Shown};
use crate::native::{self, Traffic};
use crate::over_http;
use crate::relay::Target;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use weir::Transport::{self, Quic, WebSocket, WebTransport};
use weir::wire::Delivery::{Ordered, Realtime, Unordered};
use weir::wire::Digest;

/// A receipt: topic, sequence and payload.
type Receipt = (String, u64, Digest);

#[derive(Default)]
pub struct Peers {
    shown: Shown,
    views: Vec<SharedView>,
    readers: JoinSet<()>,
    publications: Vec<Arc<Publications>>,
    publishers: Vec<JoinHandle<u64>>,
    stop: Arc<AtomicBool>,
    /// The daemon's disk fails and comes back. No publications in datagrams: of two copies of one, the
    /// daemon may refuse one and accept the other.
    pub disk_fails: bool,
}

impl Peers {
    /// Begins the twenty subscriptions, of the topics 0 to 3 below `prefix`.
    pub async fn subscribe(&mut self, target: &Target, prefix: &str) {
        let Self { shown, views, readers, .. } = self;
        let mut native = Vec::new();
        for transport in TRANSPORTS {
            native.extend([Ordered, Unordered, Realtime].map(|mode| (transport, mode, "**")));
        }
        native.extend([
            (Quic, Ordered, "0"),
            (Quic, Realtime, "*"),
            (WebTransport, Ordered, "3"),
            (WebTransport, Realtime, "2"),
            (WebSocket, Ordered, "*"),
            (WebSocket, Unordered, "1"),
        ]);
        for (transport, delivery, filter) in native {
            let (client, filter) = (target.client(transport).await, format!("{prefix}/{filter}"));
            views.push(native::subscribe(readers, client, &filter, delivery, shown).await);
        }
        for filter in ["**", "*", "0", "2", "3"] {
            let filter = format!("{prefix}/{filter}");
            views.push(over_http::subscribe(readers, target, &filter, shown).await);
        }
        assert_eq!(views.len(), 20);
    }

    /// Begins to publish to the topics 0 to 3 below `prefix`, each over another transport.
    pub async fn publish(&mut self, target: &Target, prefix: &str, every: Duration) {
        let small = Traffic { every, large: u64::MAX, size: 0, realtime: false };
        let large = Traffic { large: 97, size: 80_000, ..small };
        for (n, transport) in [Quic, WebSocket, WebTransport].into_iter().enumerate() {
            let traffic = match transport {
                Quic => large,
                WebSocket => small,
                WebTransport => Traffic { realtime: !self.disk_fails, ..small },
                other => panic!("{other} has no traffic"),
            };
            self.publish_over(target, transport, &format!("{prefix}/{n}"), traffic).await;
        }
        let publications = Publications::new(&format!("{prefix}/3"));
        self.publications.push(publications.clone());
        let stop = self.stop.clone();
        self.publishers.push(over_http::publish(target, publications, large, stop));
    }

    /// Begins to publish to one more topic.
    pub async fn publish_small(
        &mut self,
        target: &Target,
        transport: Transport,
        topic: &str,
        every: Duration,
    ) {
        let traffic = Traffic { every, large: u64::MAX, size: 0, realtime: false };
        self.publish_over(target, transport, topic, traffic).await;
    }

    async fn publish_over(
        &mut self,
        target: &Target,
        transport: Transport,
        topic: &str,
        traffic: Traffic,
    ) {
        let publications = Publications::new(topic);
        self.publications.push(publications.clone());
        let client = target.client(transport).await;
        let publisher = native::publish(client, publications, traffic, self.stop.clone());
        self.publishers.push(publisher);
    }

    /// What was shown to anybody so far.
    pub fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// How often a session of a subscriber has ended.
    pub fn ends(&self) -> u64 {
        self.views.iter().map(|view| view.lock().unwrap().ends).sum()
    }

    /// The receipts of each publisher that were given last.
    pub fn newest(&self, most: usize) -> Vec<Receipt> {
        let of = |one: &Arc<Publications>| {
            let topic = one.topic.clone();
            one.newest(most).into_iter().map(move |(at, digest)| (topic.clone(), at, digest))
        };
        self.publications.iter().flat_map(of).collect()
    }

    /// Checks that the daemon has what these receipts say. Returns their number.
    pub async fn hold(&self, target: &Target, receipts: &[Receipt]) -> usize {
        for (topic, sequence, digest) in receipts {
            let has = over_http::get(target, topic, *sequence).await;
            assert_eq!(has, Ok(*digest), "{topic} {sequence} after the end");
        }
        receipts.len()
    }

    /// Panics if a reader has failed.
    pub fn check(&mut self) {
        while let Some(failed) = self.readers.try_join_next() {
            failed.unwrap();
        }
    }

    /// Ends the traffic, waits until everything has arrived, and checks all of it. Returns the
    /// figures.
    pub async fn settle(&mut self, target: &Target) -> String {
        self.stop.store(true, Relaxed);
        let mut report = String::new();
        let publishers = std::mem::take(&mut self.publishers);
        for (publications, publisher) in self.publications.clone().iter().zip(publishers) {
            let published = timeout(PATIENCE, publisher).await.expect("no receipts").unwrap();
            let topic = &publications.topic;
            assert_eq!(publications.len() as u64, published, "{topic}");
            let (sequences, others) = publications.check();
            let unknown = others.len();
            let _ = writeln!(
                report,
                "{topic}: {published} acknowledged, {unknown} of them without a receipt"
            );
            for view in self.views.clone() {
                // What was published last is still under way.
                let complete = async {
                    while view.lock().unwrap().fault(topic, &sequences, &others).is_some() {
                        sleep(Duration::from_millis(20)).await;
                    }
                };
                if timeout(PATIENCE, complete).await.is_err() {
                    self.check();
                    let view = view.lock().unwrap();
                    let fault = view.fault(topic, &sequences, &others);
                    panic!("{}: {topic}: {fault:?}", view.name);
                }
            }
            assert_eq!(over_http::top(target, topic).await, publications.most(), "{topic}");
        }
        self.check();
        let _ = write!(report, "all of them at {} subscribers", self.views.len());
        let sum = |of: fn(&crate::ledger::View) -> u64| {
            self.views.iter().map(|view| of(&view.lock().unwrap())).sum::<u64>()
        };
        let (ends, lost) = (sum(|view| view.ends), sum(|view| view.lost));
        let _ = write!(
            report,
            ", {ends} of whose sessions ended; {lost} deliveries of what was not kept, all told as lost"
        );
        report
    }
}
