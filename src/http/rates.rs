//! The price of a request: its address pays one message, and 1 KiB at least for the answer.
//!
//! Every request counts, also one that is refused or that gets a file. A handler counts only what it
//! sends beyond the first KiB. The receipt of a publication costs nothing, as in a session.

use super::body;
use super::connection::ConnectionHandle;
use super::problem::Problem;
use crate::access::limits::ANSWER;
use crate::broker::throttle::ReplayBudget;
use crate::wire::Code;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use std::sync::Arc;

/// The begin of the paths of topics.
const TOPICS: &str = "/v1/topics/";

/// The cost of one request.
pub(super) struct Cost {
    connection: Option<Arc<ConnectionHandle>>,
    // A publication does not wait for the answers that its address has requested.
    publishes: bool,
}

impl Cost {
    pub(super) fn of(request: &Request) -> Self {
        let publishes =
            request.method() == Method::POST && request.uri().path().starts_with(TOPICS);
        Self { connection: request.extensions().get().cloned(), publishes }
    }

    /// Counts the request, and waits while its address is above a rate. Refuses the request of an
    /// address that stays above it.
    pub(super) async fn pay(&self) -> Result<(), Problem> {
        let Some(connection) = &self.connection else {
            return Ok(());
        };
        let budgets = connection.budgets();
        body::slow_down(&budgets.throttle, 1, 0).await.map_err(|_| too_fast())?;
        if !self.publishes {
            budgets.replay.ready_soon().await?;
        }
        Ok(())
    }

    /// Counts the request without waiting: one that waits for its turn would hold memory.
    pub(super) fn pay_at_once(&self) {
        if let Some(connection) = &self.connection {
            connection.budgets().throttle.receive(1, 0);
        }
    }

    /// Counts the answer.
    pub(super) fn answered(&self, status: StatusCode) {
        if let Some(connection) = &self.connection
            && !(self.publishes && status.is_success())
        {
            connection.budgets().replay.spend_answer(0);
        }
    }
}

/// Counts the bytes of an answer that its [`Cost`] does not contain.
pub(super) fn spend_beyond(replay: &ReplayBudget, bytes: usize) {
    replay.spend((bytes as u64).saturating_sub(ANSWER));
}

fn too_fast() -> Problem {
    let reason = "this address has sent more than limits.messages or limits.bytes a second: send \
                  requests more slowly, and this one again";
    Problem::of(Code::RATE_LIMITED, reason)
}
