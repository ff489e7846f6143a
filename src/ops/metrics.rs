//! All metrics of one daemon. Each is read at the scrape; nothing is kept for it in between.

use super::family::{Family, Unit};
use super::health;
use crate::access::limit_counts::Limit;
use crate::broker::Broker;
use crate::broker::admission::Admission;
use crate::broker::counters::Counters;
use crate::engine::EngineFigures;
use crate::histogram::Histogram;
use crate::journal::queue::JournalQueue;
use crate::net::quic::socket;
use crate::net::session::list::Sessions;
use crate::tls::certificates::Certificates;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// The parts of a daemon that are read.
pub(crate) struct Sources {
    pub(crate) admission: Admission,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) certificates: Arc<Certificates>,
    /// The buffers of the UDP socket for receiving and sending, bytes.
    pub(crate) udp: (usize, usize),
}

/// The metrics of one daemon, for a registry of
/// [`prometheus-client`](https://docs.rs/prometheus-client). `docs/metrics.md` lists them.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use prometheus_client::registry::Registry;
///
/// let daemon = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).spawn().await?;
/// daemon.publish("demo/a", "hello")?;
/// let mut registry = Registry::default();
/// registry.register_collector(Box::new(daemon.metrics()));
/// let mut text = String::new();
/// prometheus_client::encoding::text::encode(&mut text, &registry)?;
/// assert!(text.contains("weir_received_messages_total 1"));
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Metrics(Arc<Sources>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.families().iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// Collects the metrics of a daemon, or those that there are while it does not serve yet.
#[derive(Debug)]
struct Collected(Option<Metrics>);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match &self.0 {
            Some(metrics) => Collector::encode(metrics, encoder),
            None => about(false).iter().try_for_each(|family| family.encode(&mut encoder)),
        }
    }
}

/// Returns the text of a scrape, as OpenMetrics.
pub(super) fn text(metrics: Option<Metrics>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collected(metrics)));
    let mut out = String::with_capacity(16 << 10);
    text::encode(&mut out, &registry)?;
    Ok(out)
}

fn about(ready: bool) -> [Family; 2] {
    let none = Unit::None;
    [
        Family::info("weir_build", "The daemon.", "version", env!("CARGO_PKG_VERSION")),
        Family::gauge("weir_ready", none, "1 while `/readyz` answers 200.", ready.into()),
    ]
}

impl Metrics {
    pub(crate) fn new(sources: Sources) -> Self {
        Self(Arc::new(sources))
    }

    pub(super) fn admission(&self) -> &Admission {
        &self.0.admission
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(super) fn broker(&self) -> &Broker {
        self.0.admission.broker()
    }

    /// Returns all metrics as text, in the format OpenMetrics 1.0.
    pub fn to_text(&self) -> String {
        // Writing to a string cannot fail.
        text(Some(self.clone())).unwrap_or_default()
    }

    /// Returns the values as JSON, by name, for pages.
    pub(super) fn to_json(&self) -> Value {
        self.families().iter().map(|family| (family.full_name(), family.json())).collect()
    }

    /// All metrics. The engine's lock is taken once, for less than a microsecond, and no topic or
    /// session is looked at.
    pub(super) fn families(&self) -> Vec<Family> {
        let mut all = Vec::with_capacity(64);
        all.extend(about(health::readiness(Some(self.admission())).is_ok()));
        self.peers(&mut all);
        // After a panic of the engine its numbers are not known any more.
        if let Some(engine) = self.broker().figures() {
            traffic(&mut all, &engine, self.broker().counters());
            cache(&mut all, &engine);
        }
        self.paths(&mut all);
        journal(&mut all, self.broker().journal());
        all
    }

    fn peers(&self, all: &mut Vec<Family>) {
        let Sources { admission, sessions, certificates, .. } = &*self.0;
        let (none, counters) = (Unit::None, self.broker().counters());
        let transports = sessions.traffic.sessions();
        let now = transports.map(|(name, now, _)| (name, now));
        let begun = transports.map(|(name, _, begun)| (name, begun));
        let limits = admission.counts().iter().map(|(limit, count)| (Limit::name(limit), count));
        let refusals = admission.counts().refusals().map(|(code, count)| (code.name(), count));
        let expires = u64::try_from(certificates.expires()).unwrap_or_default();
        all.extend([
            Family::gauge("weir_sessions", none, "Sessions that are connected.", 0)
                .by("transport", now),
            Family::gauge(
                "weir_sessions_limit",
                none,
                "Maximum number of sessions (`limits.sessions`).",
                admission.sessions().limit().into(),
            ),
            Family::counter("weir_sessions_begun", none, "Sessions that have begun.", 0)
                .by("transport", begun),
            Family::gauge(
                "weir_event_streams",
                none,
                "Streams of events over HTTP that are open.",
                counters.event_streams.get(),
            ),
            Family::gauge(
                "weir_tcp_connections",
                none,
                "TCP connections, with sessions over WebSocket.",
                admission.connections().taken().into(),
            ),
            Family::counter(
                "weir_handshake_failures",
                none,
                "Connections that ended before they were a session or had a request.",
                0,
            )
            .by("cause", counters.handshake_failures()),
            Family::counter(
                "weir_limit_hits",
                none,
                "How often a limit of peers took effect. `limits.md` describes each.",
                0,
            )
            .by("limit", limits),
            Family::counter(
                "weir_refusals",
                none,
                "Refusals that peers got, by the code's name in `protocol.md`.",
                0,
            )
            .by("code", refusals),
            Family::gauge(
                "weir_certificate_expiry_timestamp",
                Unit::Seconds,
                "When the certificate in use ends, since 1970.",
                expires,
            ),
            Family::counter(
                "weir_trace_spans",
                none,
                "Spans of sessions and requests: those that a collector has taken, and those that were \
                 dropped. 0 without `log.otlp`.",
                0,
            )
            .by(
                "result",
                [("sent", counters.sent_spans.get()), ("dropped", counters.dropped_spans.get())],
            ),
        ]);
    }

    fn paths(&self, all: &mut Vec<Family>) {
        let Sources { admission, sessions, udp, .. } = &*self.0;
        let none = Unit::None;
        let (sent, lost) = sessions.traffic.packets();
        let (receive, send) = *udp;
        all.extend([
            Family::histogram(
                "weir_quic_rtt",
                "Round-trip times of sessions over QUIC and WebTransport: one sample of each session \
                 in ten seconds, and one at its end.",
                &sessions.traffic.rtt,
            ),
            Family::counter(
                "weir_quic_sent_packets",
                none,
                "QUIC packets that were sent to sessions. Each session is looked at every ten seconds.",
                sent,
            ),
            Family::counter("weir_quic_lost_packets", none, "Those of them that were lost.", lost),
            Family::gauge(
                "weir_quic_buffers",
                Unit::Bytes,
                "Bytes charged to `limits.buffers`: in flight to and from sessions over QUIC.",
                admission.buffers().held() as u64,
            ),
            Family::gauge(
                "weir_udp_buffer",
                Unit::Bytes,
                "Size of the UDP socket's buffers, as the system gave it. Linux doubles it for its own use.",
                0,
            )
            .by("direction", [("receive", receive as u64), ("send", send as u64)]),
            Family::gauge(
                "weir_udp_buffer_wanted",
                Unit::Bytes,
                "Size that the daemon asked for. With less, bursts are lost: raise `net.core.rmem_max` and `wmem_max`.",
                socket::BUFFER as u64,
            ),
        ]);
    }
}

fn traffic(all: &mut Vec<Family>, engine: &EngineFigures, counters: &Counters) {
    let none = Unit::None;
    let delivered = counters.delivered();
    let gaps = engine.gaps;
    all.extend([
        Family::gauge("weir_subscriptions", none, "Subscriptions.", engine.subscriptions),
        Family::counter(
            "weir_received_messages",
            none,
            "Publications that were accepted, each once.",
            engine.messages,
        ),
        Family::counter("weir_received", Unit::Bytes, "Bytes of their payloads.", engine.bytes),
        Family::counter(
            "weir_duplicates",
            none,
            "Publications that had been accepted before, and got their receipt again.",
            engine.duplicates,
        ),
        Family::counter(
            "weir_aborted_uploads",
            none,
            "Large payloads that did not arrive completely.",
            engine.aborted,
        ),
        Family::counter(
            "weir_delivered_messages",
            none,
            "Messages that were read from the cache for subscriptions.",
            0,
        )
        .by("mode", delivered.map(|(name, messages, _)| (name, messages))),
        Family::counter("weir_delivered", Unit::Bytes, "Bytes of their payloads.", 0)
            .by("mode", delivered.map(|(name, _, bytes)| (name, bytes))),
        Family::histogram(
            "weir_publish_to_send",
            "From the acceptance of a message until the transport of a subscriber has taken it: a \
             sample of what is delivered live.",
            &counters.publish_to_send,
        ),
        Family::counter(
            "weir_repeated_datagrams",
            none,
            "Datagrams of `realtime` deliveries with messages that were sent before.",
            counters.repeats.get(),
        ),
        Family::counter(
            "weir_repair_requests",
            none,
            "Ranges of sequences that receivers have missed and requested.",
            counters.repair_requests.get(),
        ),
        Family::counter(
            "weir_repaired_messages",
            none,
            "Messages that were sent again for such requests.",
            counters.repaired.get(),
        ),
        Family::counter(
            "weir_gap_messages",
            none,
            "Messages that subscriptions will not get, and were told so: once for each subscription.",
            0,
        )
        .by(
            "cause",
            [
                ("evicted", gaps.evicted),
                ("skipped", gaps.skipped),
                ("aborted", gaps.aborted),
                ("late", gaps.late),
                ("lost", gaps.lost),
                ("expired", gaps.expired),
            ],
        ),
        Family::gauge(
            "weir_backlog_messages",
            none,
            "Messages that were accepted since the position of the subscription that is furthest behind: \
             an upper limit of every backlog.",
            engine.backlog,
        ),
    ]);
}

fn cache(all: &mut Vec<Family>, engine: &EngineFigures) {
    let none = Unit::None;
    all.extend([
        Family::gauge("weir_topics", none, "Topics.", engine.topics),
        Family::gauge(
            "weir_cached_messages",
            none,
            "Messages in the cache.",
            engine.cached_messages,
        ),
        Family::gauge(
            "weir_cache",
            Unit::Bytes,
            "Bytes charged to the cache: for topics with their messages, held for peers, and reserved for \
             counts.",
            0,
        )
        .by(
            "part",
            [
                ("topics", engine.topic_bytes),
                ("held", engine.held_bytes),
                ("counts", engine.count_bytes),
            ],
        ),
        Family::gauge(
            "weir_cache_limit",
            Unit::Bytes,
            "The limit of these (`cache.bytes`).",
            engine.cache_bytes,
        ),
        Family::counter("weir_lookups", none, "Look-ups of one message (`Get`).", 0).by(
            "result",
            [("hit", engine.hits), ("miss", engine.lookups.saturating_sub(engine.hits))],
        ),
        Family::counter(
            "weir_evictions",
            none,
            "Messages that left the cache: to make room, by the rule of their topic, or with their topic.",
            0,
        )
        .by(
            "cause",
            [
                ("room", engine.evicted_for_room),
                ("rule", engine.evicted_by_rule),
                ("topic", engine.evicted_with_topic),
            ],
        ),
        Family::counter(
            "weir_forgotten_topics",
            none,
            "Topics that were forgotten (`limits.topics`, `cache.bytes`).",
            engine.forgotten_topics,
        ),
        Family::counter(
            "weir_forgotten_counts",
            none,
            "Counts of payloads that were forgotten. Such a payload counts from 1 again, and `since` says \
             so.",
            engine.forgotten_counts,
        ),
    ]);
}

// Without a journal, all of it is 0.
fn journal(all: &mut Vec<Family>, queue: Option<&JournalQueue>) {
    let none = Unit::None;
    let of = |value: fn(&JournalQueue) -> u64| queue.map_or(0, value);
    let [log, snapshot] = queue.map_or([0; 2], JournalQueue::disk);
    let empty = Histogram::default();
    all.extend([
        Family::histogram(
            "weir_journal_delay",
            "From the acceptance of a message until the journal has kept it: the oldest message of each \
             batch.",
            queue.map_or(&empty, JournalQueue::delay),
        ),
        Family::gauge("weir_journal", Unit::Bytes, "Bytes of the journal on the disk.", 0)
            .by("part", [("log", log), ("snapshot", snapshot)]),
        Family::gauge(
            "weir_journal_waiting_records",
            none,
            "Changes that the journal has not kept yet.",
            of(|queue| queue.pushed().saturating_sub(queue.kept())),
        ),
        Family::gauge(
            "weir_journal_waiting",
            Unit::Bytes,
            "Bytes of these.",
            of(JournalQueue::waiting_bytes),
        ),
        Family::gauge(
            "weir_journal_refuses",
            none,
            "1 while publications are refused, because the journal cannot be written.",
            of(|queue| queue.refuses().into()),
        ),
        Family::gauge(
            "weir_journal_unkept",
            none,
            "1 while publications are accepted and not kept (`journal.on_failure = \"continue\"`).",
            of(|queue| queue.is_unkept().into()),
        ),
    ]);
}
