//! A daemon does everything that is counted, and every metric is seen to move.

use super::ANY;
use super::common::{PATIENCE, TRANSPORTS, message, within};
use super::http::ask;
use super::lossy::{CLEAN, Lossy, ROUGH};
use super::raw::Raw;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use weir::client::Reconnect;
use weir::daemon::JournalOptions;
use weir::engine::{Keep, Limits, TopicRule};
use weir::wire::{self, ClientFrame, Code, DaemonFrame, Delivery};
use weir::{Client, Daemon, Event, Start, SubscribeOptions, Transport, Trust};

/// Metrics that do not move here, each with the reason.
const STILL: &[(&str, &str)] = &[
    ("weir_build", "it is the version"),
    ("weir_cache_limit_bytes", "a setting"),
    ("weir_certificate_expiry_timestamp_seconds", "renewed every ten days; its value is checked"),
    ("weir_journal_refuses", "needs a disk that fails: tests/full_disk.rs"),
    ("weir_journal_unkept", "needs a disk that fails: tests/full_disk.rs"),
    ("weir_sessions_limit", "a setting"),
    ("weir_trace_spans", "needs the feature `otel`: tests/traces.rs"),
    ("weir_udp_buffer_bytes", "chosen by the system at the start"),
    ("weir_udp_buffer_wanted_bytes", "a constant"),
];

/// Metrics of which each label's value has to move.
const WHOLE: &[&str] = &[
    "weir_sessions_begun",
    "weir_delivered_messages",
    "weir_delivered_bytes",
    "weir_evictions",
    "weir_lookups",
];

/// Scrapes, and what has moved since the first one.
struct Watch {
    ops: SocketAddr,
    // By name with labels.
    first: BTreeMap<String, f64>,
    families: BTreeSet<String>,
    moved: BTreeSet<String>,
    // With labels, of `WHOLE`.
    still: BTreeSet<String>,
}

impl Watch {
    async fn begin(ops: SocketAddr) -> Self {
        let empty = BTreeMap::new();
        let (families, moved, still) = Default::default();
        let mut watch = Self { ops, first: empty, families, moved, still };
        let first = watch.scrape().await;
        let whole = first.iter().filter(|(family, _)| WHOLE.contains(&&***family));
        watch.still = whole.flat_map(|(_, all)| all.iter().map(|(name, _)| name.clone())).collect();
        watch.first = first.into_values().flatten().collect();
        watch.look().await;
        watch
    }

    // Returns the samples of each family.
    async fn scrape(&mut self) -> BTreeMap<String, Vec<(String, f64)>> {
        let answer = within(ask(self.ops, "GET", "/metrics").send()).await;
        let text = String::from_utf8(answer.body).unwrap();
        let mut families: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                kind.split(' ').next().unwrap().clone_into(&mut family);
                families.entry(family.clone()).or_default();
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let value = value.parse().unwrap();
                families.get_mut(&family).unwrap().push((name.to_owned(), value));
            }
        }
        families
    }

    async fn look(&mut self) {
        for (family, samples) in self.scrape().await {
            let moves = |(name, value): &(String, f64)| self.first.get(name) != Some(value);
            if samples.iter().any(moves) {
                self.moved.insert(family.clone());
            }
            samples.iter().filter(|sample| moves(sample)).for_each(|(name, _)| {
                self.still.remove(name);
            });
            self.families.insert(family);
        }
    }

    /// Looks until these have moved.
    async fn until(&mut self, names: &[&str]) {
        let begun = Instant::now();
        loop {
            self.look().await;
            let missing: Vec<_> =
                names.iter().filter(|name| !self.moved.contains(**name)).collect();
            if missing.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{missing:?} did not move");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Looks until each value of `WHOLE` has moved. Messages that a rule does not keep stay for 5 s.
    async fn until_whole(&mut self) {
        let begun = Instant::now();
        while !self.still.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "these did not move: {:?}", self.still);
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.look().await;
        }
    }

    async fn value(&mut self, sample: &str) -> f64 {
        let scraped = self.scrape().await;
        let found = scraped.values().flatten().find(|(name, _)| name == sample);
        found.unwrap_or_else(|| panic!("no {sample}")).1
    }
}

async fn client(daemon: &Daemon, address: SocketAddr, transport: Transport) -> Client {
    let trust = Trust::Pinned(daemon.certificate_hash().into());
    let builder = Client::builder(address.to_string()).transport(transport).trust(trust);
    within(builder.reconnect(Reconnect::never()).connect()).await.unwrap()
}

fn delivery(delivery: Delivery) -> SubscribeOptions {
    SubscribeOptions::default().with_delivery(delivery)
}

async fn daemon(state: &std::path::Path) -> Daemon {
    let mut limits = Limits::default();
    (limits.cache, limits.payload, limits.topics) = (1 << 20, 128 << 10, 40);
    let rules = [
        TopicRule::new("slow/**".parse().unwrap()).with_rate(1.try_into().unwrap()),
        TopicRule::new("latest/**".parse().unwrap()).with_keep(Keep::LATEST),
    ];
    let builder = Daemon::builder().listen(ANY).http(ANY).ops(ANY).state(state).limits(limits);
    builder.topic_rules(rules).journal(JournalOptions::default()).spawn().await.unwrap()
}

// Sessions over each transport publish, and subscribe in each mode.
async fn sessions(daemon: &Daemon, watch: &mut Watch) {
    for (n, transport) in TRANSPORTS.into_iter().enumerate() {
        let client = client(daemon, daemon.local_addr(), transport).await;
        let mode = [Delivery::Unordered, Delivery::Realtime, Delivery::Ordered][n];
        let mut subscription = within(client.subscribe("demo/*", &delivery(mode))).await.unwrap();
        within(client.publish("demo/a", "hello")).await.unwrap();
        message(&mut subscription).await;
        watch.look().await;
    }
    watch.until(&["weir_sessions", "weir_quic_rtt_seconds", "weir_quic_sent_packets"]).await;
}

// Datagrams over a network that loses packets.
async fn losses(daemon: &Daemon, watch: &mut Watch) {
    let network = Lossy::start(daemon.local_addr(), CLEAN);
    let client = client(daemon, network.address, Transport::Quic).await;
    let options = delivery(Delivery::Realtime);
    let mut subscription = within(client.subscribe("lossy", &options)).await.unwrap();
    network.set(ROUGH);
    let begun = Instant::now();
    loop {
        for _ in 0..20 {
            daemon.publish("lossy", "state").unwrap();
            message(&mut subscription).await;
        }
        watch.look().await;
        let seen = |name: &str| watch.moved.contains(name);
        if seen("weir_repeated_datagrams")
            && seen("weir_repair_requests")
            && seen("weir_repaired_messages")
        {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "no repeats or repairs: {:?}", watch.moved);
    }
    network.set(CLEAN);
    drop(subscription);
    drop(client);
    // The packets of a session that has ended are all counted.
    watch.until(&["weir_quic_lost_packets"]).await;
}

async fn over_http(daemon: &Daemon, watch: &mut Watch) {
    let http = daemon.http_addr().unwrap();
    let post = ask(http, "POST", "/v1/topics/http").header("idempotency-key", "one").body("x");
    for duplicate in [false, true] {
        assert_eq!(within(post.send()).await.json()["duplicate"], duplicate);
    }
    assert_eq!(within(ask(http, "GET", "/v1/topics/http").send()).await.status, 200);
    assert_eq!(within(ask(http, "GET", "/v1/topics/nothing").send()).await.status, 404);
    let mut events = within(ask(http, "GET", "/v1/events/http").events()).await;
    within(ask(http, "POST", "/v1/topics/http").body("y").send()).await;
    within(events.event()).await.unwrap();
    watch.until(&["weir_event_streams", "weir_tcp_connections"]).await;
    let too_large = ask(http, "POST", "/v1/topics/http").body(vec![0; 200 << 10]);
    assert_eq!(within(too_large.send()).await.status, 413);
    // Not a WebSocket.
    assert_eq!(within(ask(http, "GET", "/weir").send()).await.status, 400);
    // A large payload that stops half-way.
    let mut half = TcpStream::connect(http).await.unwrap();
    let head = "POST /v1/topics/half HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
    half.write_all(head.as_bytes()).await.unwrap();
    half.write_all(&vec![7; 80_000]).await.unwrap();
    drop(half);
    watch.until(&["weir_aborted_uploads"]).await;
    // A rule's rate.
    let slow = ask(http, "POST", "/v1/topics/slow/a").body("x");
    while within(slow.send()).await.status != 429 {}
    let refusals = "weir_refusals_total{code=\"rate_limited\"}";
    assert!(watch.value(refusals).await >= 1.0);
}

// A peer that reads nothing.
async fn unread(daemon: &Daemon, watch: &mut Watch) {
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(10_000_u32.into());
    let mut raw = Raw::with(daemon.local_addr(), transport).await.greet().await;
    let (start, lag) = (wire::Start::New, wire::Lag::Oldest);
    raw.send(&[ClientFrame::Subscribe {
        request: 1,
        filter: "unread",
        start,
        delivery: Delivery::Ordered,
        lag,
        deadline: 0,
    }])
    .await;
    let frame = raw.frame().await;
    assert!(matches!(DaemonFrame::decode(&frame), Ok(DaemonFrame::Subscribed { .. })));
    for n in 0..20_u8 {
        daemon.publish("unread", vec![n; 10_000]).unwrap();
    }
    watch.until(&["weir_quic_buffers_bytes", "weir_backlog_messages"]).await;
}

// More than the cache holds, in more topics than there may be, with more payloads than can be counted.
async fn floods(daemon: &Daemon, watch: &mut Watch) {
    let mut behind = daemon.subscribe("flood", &SubscribeOptions::default()).unwrap();
    let mut read = daemon.subscribe("read", &SubscribeOptions::from(Start::New)).unwrap();
    daemon.publish("read", "x").unwrap();
    within(read.next()).await.unwrap().unwrap();
    for n in 0..20_000_u32 {
        let payload = [&n.to_be_bytes()[..], &[0; 60]].concat();
        while let Err(refusal) = daemon.publish("flood", payload.clone()) {
            // The disk is slower.
            assert_eq!(refusal.code, Code::UNAVAILABLE, "{refusal}");
            daemon.kept().await;
        }
    }
    assert!(matches!(within(behind.next()).await.unwrap().unwrap(), Event::Gap(_)));
    for n in 0..50 {
        daemon.publish(&format!("topics/{n}"), "x").unwrap();
    }
    for _ in 0..5 {
        daemon.publish("latest/a", vec![0; 1000]).unwrap();
    }
    watch.look().await;
    // The journal's writer waits for 0.2 ms before it takes what there is.
    let begun = Instant::now();
    let waits = |text: &str| {
        let waits = |name| text.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0"));
        waits("weir_journal_waiting_records ") && waits("weir_journal_waiting_bytes ")
    };
    loop {
        daemon.publish("waiting", "x").unwrap();
        let text = daemon.metrics().to_text();
        if waits(&text) {
            watch.moved.insert("weir_journal_waiting_records".into());
            watch.moved.insert("weir_journal_waiting_bytes".into());
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing waits for the journal");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_moves() {
    let state = tempfile::tempdir().unwrap();
    let daemon = daemon(state.path()).await;
    let mut watch = Watch::begin(daemon.ops_addr().unwrap()).await;
    assert!(watch.families.len() > 40, "{:?}", watch.families);
    sessions(&daemon, &mut watch).await;
    over_http(&daemon, &mut watch).await;
    unread(&daemon, &mut watch).await;
    losses(&daemon, &mut watch).await;
    floods(&daemon, &mut watch).await;
    watch.until(&["weir_journal_bytes", "weir_journal_delay_seconds"]).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let expires = watch.value("weir_certificate_expiry_timestamp_seconds").await;
    let days = (expires - now.as_secs_f64()) / 86_400.0;
    assert!((9.9..13.1).contains(&days), "the certificate ends in {days} days");
    daemon.drain(Duration::ZERO).await;
    watch.until(&["weir_ready"]).await;
    watch.until_whole().await;
    let still: BTreeSet<_> = watch.families.difference(&watch.moved).map(String::as_str).collect();
    let expected: BTreeSet<_> = STILL.iter().map(|(name, _)| *name).collect();
    assert_eq!(still, expected, "metrics that did not move, and those that need not");
}
