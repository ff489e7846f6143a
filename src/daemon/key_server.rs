//! Keys that verify tokens, from a server: a set of keys (JWKS, RFC 7517) at an https address.
//!
//! One task fetches, so that there is one fetch at a time, and never one under a lock. It fetches at
//! the start, at intervals, and when a token names a key that is not there. The last good set stays
//! when a fetch fails.

use super::fetch::{Answer, FetchError, Fetcher, RemoteError};
use super::keys::{KeyFileError, KeyFileProblem, log_keys};
use crate::access::rules::{Fetched, KeySource};
use crate::access::{Expectations, KeySet, MAX_KEY_BYTES, Remote, Verifier};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

/// Maximum time of a fetch, 5 s. A peer whose token waits for it is refused after 10 s.
const FETCH: Duration = Duration::from_secs(5);

/// Interval of fetches, if the server names none with `Cache-Control: max-age`: 10 minutes.
const INTERVAL: Duration = Duration::from_secs(600);

/// The shortest and the longest interval that a server may name: a minute and a day. A key that was
/// removed verifies tokens for as long.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(86_400);

/// Delay after the first failure in a row, 1 s; each further one doubles it, up to a minute.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Minimum time between two fetches that tokens cause, 30 s. Everybody can name keys that do not exist.
const AGAIN: Duration = Duration::from_secs(30);

/// The place from which keys are fetched.
pub(super) trait Source: Send + Sync + 'static {
    fn get(&self) -> impl Future<Output = Result<Answer, FetchError>> + Send;
}

impl Source for Fetcher {
    async fn get(&self) -> Result<Answer, FetchError> {
        self.get(FETCH, MAX_KEY_BYTES).await
    }
}

/// A server with keys.
pub(super) struct KeyServer<S = Fetcher> {
    source: S,
    url: String,
    expectations: Expectations,
    progress: watch::Sender<Progress>,
    // Wakes the task that fetches.
    wanted: Notify,
    // When a token last caused a fetch.
    caused: Mutex<Option<Instant>>,
}

impl<S> std::fmt::Debug for KeyServer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeyServer").field(&self.url).finish()
    }
}

#[derive(Debug)]
struct Progress {
    fetching: bool,
    // Number of fetches that have ended.
    ended: u64,
    // Why the last one failed.
    failure: Option<Arc<KeyFileProblem>>,
}

impl KeyServer {
    /// Reads the authorities for the server's certificate. It fetches nothing yet.
    pub(super) fn open(remote: &Remote, expectations: Expectations) -> Result<Self, RemoteError> {
        Ok(Self::new(Fetcher::new(remote)?, remote.url(), expectations))
    }
}

impl<S: Source> KeyServer<S> {
    fn new(source: S, url: &str, expectations: Expectations) -> Self {
        // The first fetch is about to begin.
        let first = Progress { fetching: true, ended: 0, failure: None };
        Self {
            source,
            url: url.to_owned(),
            expectations,
            progress: watch::Sender::new(first),
            wanted: Notify::new(),
            caused: Mutex::new(None),
        }
    }

    /// Fetches the keys again and again, and hands over those that are new. Does not return.
    pub(super) async fn watch(self: Arc<Self>, set: impl Fn(Arc<Verifier>)) {
        let mut current: Option<Bytes> = None;
        let mut retry = FIRST_RETRY;
        loop {
            self.progress.send_modify(|progress| progress.fetching = true);
            let fetched = self.source.get().await;
            let wait = match self.keys(fetched, current.as_ref()) {
                Ok((new, interval)) => {
                    if let Some((verifier, body)) = new {
                        set(Arc::new(verifier));
                        current = Some(body);
                    }
                    retry = FIRST_RETRY;
                    self.ended(None);
                    interval
                }
                Err(error) => {
                    let url = &self.url;
                    if current.is_some() {
                        tracing::warn!(url, %error, "the keys that were fetched before stay");
                    } else {
                        let refused = "tokens are refused (overloaded) until keys were fetched";
                        tracing::error!(url, %error, "{refused}");
                    }
                    let wait = retry;
                    retry = LAST_RETRY.min(retry * 2);
                    self.ended(Some(Arc::new(error)));
                    wait
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    // Returns the keys if they are others than before, and the time until the next fetch.
    fn keys(
        &self,
        fetched: Result<Answer, FetchError>,
        current: Option<&Bytes>,
    ) -> Result<(Option<(Verifier, Bytes)>, Duration), KeyFileProblem> {
        let answer = fetched?;
        if answer.status != 200 {
            return Err(FetchError::Status(answer.status).into());
        }
        let interval = answer.max_age.unwrap_or(INTERVAL).clamp(SHORTEST, LONGEST);
        if current == Some(&answer.body) {
            return Ok((None, interval));
        }
        let keys = KeySet::parse_published(&answer.body)?;
        log_keys(&self.url, &keys);
        Ok((Some((Verifier::new(keys, self.expectations.clone()), answer.body)), interval))
    }

    fn ended(&self, failure: Option<Arc<KeyFileProblem>>) {
        self.progress.send_modify(|progress| {
            progress.fetching = false;
            progress.ended += 1;
            progress.failure = failure;
        });
    }

    /// Has the keys fetched, and waits for that.
    pub(super) async fn reload(&self) -> Result<(), KeyFileError> {
        let mut progress = self.progress.subscribe();
        let next = progress.borrow_and_update().ended + 1;
        self.wanted.notify_one();
        let Ok(now) = progress.wait_for(|now| now.ended >= next).await else { return Ok(()) };
        match &now.failure {
            None => Ok(()),
            Some(problem) => {
                let problem = KeyFileProblem::Again(problem.clone());
                Err(KeyFileError { path: PathBuf::from(&self.url), problem })
            }
        }
    }

    // Whether a token may cause a fetch now.
    fn may_cause(&self) -> bool {
        let mut caused = self.caused.lock().unwrap_or_else(PoisonError::into_inner);
        let may = caused.is_none_or(|last| last.elapsed() >= AGAIN);
        if may {
            *caused = Some(Instant::now());
        }
        may
    }
}

impl<S: Source> KeySource for KeyServer<S> {
    fn fetch(&self) -> Fetched<'_> {
        Box::pin(async move {
            let (mut progress, mut next) = (self.progress.subscribe(), None);
            self.progress.send_if_modified(|now| {
                let begins = !now.fetching && self.may_cause();
                // From now on, other tokens wait for it too.
                now.fetching |= begins;
                next = now.fetching.then_some(now.ended + 1);
                if begins {
                    self.wanted.notify_one();
                }
                false
            });
            let Some(next) = next else { return };
            // An error means that the daemon stops.
            let _ = progress.wait_for(|now| now.ended >= next).await;
        })
    }
}

#[cfg(test)]
mod tests;
