//! The export of spans to a collector, over OTLP/HTTP with protobuf.
//!
//! One task takes spans from the queue of [`crate::broker::spans`], and sends them in batches. Spans
//! that a collector does not take in time are dropped and counted. None is sent twice. Sessions and requests
//! never wait for it.

mod client;
mod data;

use super::fetch::Fetcher;
use super::otlp::{OtlpError, traces_url};
use crate::broker::admission::Admission;
use crate::broker::spans::{Ratio, Span, Spans};
use client::{Answer, Client, LastAnswer};
use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::{Protocol, RetryPolicy, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::trace::SpanExporter as _;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// Maximum number of spans in a request.
const BATCH: usize = 512;

/// For how long a span waits for others, 1 s.
const DELAY: Duration = Duration::from_secs(1);

/// Maximum time of a request, 10 s, as OTLP recommends.
const DEADLINE: Duration = Duration::from_secs(10);

/// Maximum time to export what is left when the daemon has stopped, 2 s.
const LAST: Duration = Duration::from_secs(2);

/// A collector of traces, for [`Builder::otlp`](super::Builder::otlp).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use weir::daemon::Otlp;
///
/// let collector = Otlp::new("http://127.0.0.1:4318").with_ratio(0.1);
/// let builder = weir::Daemon::builder().listen("127.0.0.1:0".parse()?).otlp(collector);
/// let daemon = builder.spawn().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Otlp {
    url: String,
    ratio: f64,
}

impl Otlp {
    /// Sets the address, to which `/v1/traces` is appended: `https://…` with a certificate that the
    /// system trusts, or `http://…` within a network that is trusted.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ratio: 1.0 }
    }

    /// Sets the part of the sessions and requests that are traced, from 0 to 1. The default is 1. For a
    /// request with a `traceparent`, that decides.
    pub fn with_ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }
}

/// The exporter of one daemon.
pub(super) struct Exporter {
    exporter: opentelemetry_otlp::SpanExporter,
    last_answer: LastAnswer,
    scope: InstrumentationScope,
    ratio: Ratio,
    // For the log.
    url: String,
}

impl Exporter {
    /// Reads the authorities of the system, which are files. Sends nothing yet.
    pub(super) fn open(Otlp { url, ratio }: Otlp) -> Result<Self, OtlpError> {
        let ratio = Ratio::new(ratio).ok_or(OtlpError::Ratio(ratio))?;
        let (address, endpoint) = traces_url(&url)?;
        let fetcher = Fetcher::open_any(address, |reason| OtlpError::url(&url, reason))?;
        let last_answer = LastAnswer::default();
        let client = Client::new(fetcher, DEADLINE, last_answer.clone());
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(DEADLINE)
            // A retry would sleep on the thread, because without tonic or reqwest the exporter knows no
            // runtime.
            .with_retry_policy(RetryPolicy::disabled())
            .build();
        let mut exporter = exporter.map_err(|error| OtlpError::Exporter(error.to_string()))?;
        exporter.set_resource(&data::resource());
        Ok(Self { exporter, last_answer, scope: data::scope(), ratio, url })
    }

    fn start(self, admission: &Admission) -> Exporting {
        let (spans, queue) = Spans::new(self.ratio);
        admission.set_spans(spans);
        let (finish, finishing) = watch::channel(());
        let export = Export {
            exporter: self,
            admission: admission.clone(),
            queue,
            batch: Vec::with_capacity(BATCH),
            fails: false,
        };
        let mut task = JoinSet::new();
        task.spawn(export.run(finishing));
        Exporting { finish, task }
    }
}

/// Runs a daemon, and exports its spans if there is an exporter, also those of its end.
pub(super) async fn traced(
    daemon: impl Future<Output = ()>,
    exporter: Option<Exporter>,
    admission: Admission,
) {
    let Some(exporter) = exporter else { return daemon.await };
    let Exporting { finish, mut task } = exporter.start(&admission);
    daemon.await;
    drop(finish);
    task.join_next().await;
}

// The task exports what waits when `finish` is dropped, and ends at once when it is dropped itself.
struct Exporting {
    finish: watch::Sender<()>,
    task: JoinSet<()>,
}

struct Export {
    exporter: Exporter,
    admission: Admission,
    queue: mpsc::Receiver<Span>,
    batch: Vec<Span>,
    fails: bool,
}

impl Export {
    async fn run(mut self, finish: watch::Receiver<()>) {
        let mut finishing = finish.clone();
        let late = async {
            finished(finish).await;
            sleep(LAST).await;
        };
        let mut late = pin!(late);
        loop {
            let goes_on = tokio::select! {
                () = self.collect() => true,
                _ = finishing.changed() => false,
            };
            if !goes_on {
                self.queue.close();
                while self.batch.len() < BATCH
                    && let Ok(span) = self.queue.try_recv()
                {
                    self.batch.push(span);
                }
                if self.batch.is_empty() {
                    return;
                }
            }
            let count = self.batch.len();
            tokio::select! {
                () = self.export() => {}
                () = &mut late => {
                    self.dropped(count + self.queue.len());
                    return;
                }
            }
        }
    }

    // Takes a batch: what comes within the delay.
    async fn collect(&mut self) {
        if self.batch.is_empty() {
            match self.queue.recv().await {
                Some(span) => self.batch.push(span),
                None => return pending().await,
            }
        }
        let until = Instant::now() + DELAY;
        while self.batch.len() < BATCH {
            match timeout_at(until, self.queue.recv()).await {
                Ok(Some(span)) => self.batch.push(span),
                _ => return,
            }
        }
    }

    async fn export(&mut self) {
        let count = self.batch.len();
        let spans = data::spans(&mut self.batch, &self.exporter.scope);
        let exported = self.exporter.exporter.export(spans).await;
        let Answer { rejected, error } = self.exporter.last_answer.take();
        let rejected = exported.as_ref().map_or(count, |()| rejected.min(count));
        self.dropped(rejected);
        let sent = &self.admission.broker().counters().sent_spans;
        sent.add((count - rejected) as u64);
        let error = error.or_else(|| exported.err().map(|error| error.to_string()));
        let url = &self.exporter.url;
        match error {
            Some(error) if !self.fails => {
                tracing::warn!(
                    url,
                    error,
                    "traces: the collector does not take the spans: they are dropped until it does"
                );
            }
            None if self.fails => tracing::info!(url, "traces: the collector takes spans again"),
            _ => {}
        }
        self.fails = rejected > 0;
    }

    fn dropped(&self, count: usize) {
        self.admission.broker().counters().dropped_spans.add(count as u64);
    }
}

// Waits until the sender is dropped. It sends nothing.
async fn finished(mut finish: watch::Receiver<()>) {
    let _ = finish.changed().await;
}
