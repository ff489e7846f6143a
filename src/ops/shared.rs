//! The state that all requests share.

use super::metrics::Metrics;
use crate::broker::admission::Admission;
use axum::http::{HeaderName, header};
use std::sync::OnceLock;
use tokio::sync::Semaphore;

/// No answer is to be kept.
pub(super) const NOT_KEPT: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

/// The state that all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    // Set when the daemon serves.
    pub(super) metrics: OnceLock<Metrics>,
    // One scrape at a time, so that a flood of them takes one core at most.
    pub(super) scraping: Semaphore,
    // So are the sessions and topics, which takes longer.
    pub(super) listing: Semaphore,
}

impl Shared {
    pub(super) fn new() -> Self {
        let (scraping, listing) = (Semaphore::new(1), Semaphore::new(1));
        Self { metrics: OnceLock::new(), scraping, listing }
    }

    pub(super) fn admission(&self) -> Option<&Admission> {
        self.metrics.get().map(Metrics::admission)
    }
}
