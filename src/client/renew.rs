//! Showing a new token before the rights of a session end.

use super::error::SessionClosed;
use super::request::begin_request;
use super::session_state::SessionState;
use super::token::TokenSource;
use crate::wire::ClientFrame;
use std::future::pending;
use std::time::Duration;
use tokio::time::{sleep, sleep_until};

/// Part of the rights' time after which the client fetches another token.
const FETCH_AFTER: f64 = 0.75;

/// The first and the longest pause after a token could not be fetched, or was refused. For short
/// lifetimes the first one is shorter.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Shows a new token before the rights of the session end. Never returns.
pub(super) async fn renew(source: &TokenSource, state: &SessionState) -> SessionClosed {
    let TokenSource::Fetched(_) = source else {
        return pending().await;
    };
    loop {
        let (since, lifetime) = state.authorized().await;
        // Not all clients of a daemon at the same moment.
        let chance = 0.9 + 0.1 * rand::random::<f64>();
        sleep_until(since + lifetime.mul_f64(FETCH_AFTER * chance)).await;
        // Several attempts fit into what is left.
        let mut pause = PAUSE[0].min(lifetime / 20);
        while let Err(error) = show(source, state).await {
            tracing::warn!(error, ?pause, "the session's token was not renewed yet");
            sleep(pause).await;
            pause = (2 * pause).min(PAUSE[1]);
        }
    }
}

async fn show(source: &TokenSource, state: &SessionState) -> Result<(), String> {
    let token = source.get().await.map_err(|error| error.to_string())?;
    let token = token.as_deref().unwrap_or_default();
    let reply =
        begin_request(state, |request, _, out| ClientFrame::Token { request, token }.encode(out));
    match reply.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(refusal)) => Err(refusal.reason.into_owned()),
        // The session has ended.
        Err(_) => pending().await,
    }
}
