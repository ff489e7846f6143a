//! A program that is asked over HTTP who a peer is: an [`Authorize`].
//!
//! An answer is kept for as long as the program allows. The same question is asked once at a time, in a
//! task of its own, so that it goes on if the peer that has caused it leaves.

use super::fetch::{Answer, FetchError, Fetcher, RemoteError};
use crate::access::answer::{identity_of, refusal_of};
use crate::access::{Authorize, Authorizing, Credentials, Identity, MAX_TOKEN, Remote};
use crate::net::now;
use crate::wire::{Code, Refusal};
use bytes::Bytes;
use lru::LruCache;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SetOnce};
use tokio::time::{Instant, timeout};

/// Maximum time for which an identity is kept, one minute.
const KEPT: Duration = Duration::from_secs(60);

/// Time for which a refusal is kept, 5 s: a peer that was just granted something can connect soon.
const REFUSED: Duration = Duration::from_secs(5);

/// Maximum number of identities, and of refusals, that are kept. The one used longest ago makes room.
/// Refusals, which everybody can cause, do not displace identities.
const ANSWERS: usize = 4096;

/// Maximum number of questions at one time.
const QUESTIONS: usize = 64;

/// Maximum number of questions that wait for that.
const WAITING: usize = 1024;

/// Maximum size of an answer, 64 KiB: twice what 128 filters take.
const ANSWER: usize = 64 << 10;

type Answered = Result<Identity, Refusal>;

/// The digest of what a peer has shown.
type Key = [u8; 32];

/// Asks a program over HTTP for the identity of each peer: `docs/access.md` describes question and
/// answer. Cheap to clone; all clones keep answers together.
///
/// [`AccessRules::back_end`](crate::access::AccessRules::back_end) does the same, and reports an
/// address that cannot be used when the daemon starts. This is for programs that decide about some
/// peers themselves.
///
/// ```no_run
/// use weir::access::{AccessRules, Remote};
/// use weir::daemon::HttpAuthorize;
///
/// # fn main() -> Result<(), weir::daemon::RemoteError> {
/// let back_end = HttpAuthorize::new(&Remote::new("http://127.0.0.1:9000/weir"))?;
/// let rules = AccessRules::default().authorize(back_end);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct HttpAuthorize(Arc<Inner>);

struct Inner {
    fetcher: Fetcher,
    url: String,
    timeout: Duration,
    table: Mutex<Table>,
    // Places of questions, and of those that wait.
    places: Semaphore,
    waiting: Semaphore,
    // Whether a failure was logged since the last answer.
    failing: AtomicBool,
}

struct Table {
    identities: LruCache<Key, (Identity, Instant)>,
    refusals: LruCache<Key, (Refusal, Instant)>,
    asking: HashMap<Key, Arc<SetOnce<Answered>>>,
}

impl std::fmt::Debug for HttpAuthorize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HttpAuthorize").field(&self.0.url).finish()
    }
}

impl HttpAuthorize {
    /// Reads the authorities for the server's certificate, which are files. It asks nothing yet.
    pub fn new(remote: &Remote) -> Result<Self, RemoteError> {
        let table = Table {
            identities: LruCache::unbounded(),
            refusals: LruCache::unbounded(),
            asking: HashMap::new(),
        };
        Ok(Self(Arc::new(Inner {
            fetcher: Fetcher::new(remote)?,
            url: remote.url().to_owned(),
            timeout: remote.timeout(),
            table: Mutex::new(table),
            places: Semaphore::new(QUESTIONS),
            waiting: Semaphore::new(QUESTIONS + WAITING),
            failing: AtomicBool::new(false),
        })))
    }

    // Returns the answer that is kept, or the question to wait for.
    fn look(&self, key: Key, credentials: &Credentials<'_>) -> Result<Answered, Question> {
        let instant = Instant::now();
        let mut table = self.0.table();
        if let Some((identity, until)) = table.identities.get(&key)
            && *until > instant
            && identity.expires().is_none_or(|at| at > now())
        {
            return Ok(Ok(identity.clone()));
        }
        if let Some((refusal, until)) = table.refusals.get(&key)
            && *until > instant
        {
            return Ok(Err(refusal.clone()));
        }
        if let Some(asking) = table.asking.get(&key) {
            return Err(asking.clone());
        }
        let Ok(waiting) = self.0.waiting.try_acquire() else {
            return Ok(Err(failed()));
        };
        waiting.forget();
        let question = Question::default();
        table.asking.insert(key, question.clone());
        drop(table);
        let (of, question_of) = (self.clone(), question.clone());
        let asking = Asking { of, key, question: question_of, answered: None };
        let body = json!({
            "token": credentials.token,
            "certificate": credentials.certificate,
            "address": credentials.address.to_canonical(),
        });
        tokio::spawn(asking.ask(body.to_string().into()));
        Err(question)
    }
}

type Question = Arc<SetOnce<Answered>>;

/// A question in progress. It has an answer when this is dropped.
struct Asking {
    of: HttpAuthorize,
    key: Key,
    question: Question,
    // None until there is an answer.
    answered: Option<Answered>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.of.0.waiting.add_permits(1);
        // Before the answer: the next question is another one.
        self.of.0.table().asking.remove(&self.key);
        let answered = self.answered.take();
        let _ = self.question.set(answered.unwrap_or_else(|| Err(failed())));
    }
}

impl Asking {
    async fn ask(mut self, body: Bytes) {
        let inner = &*self.of.0;
        let asked = now();
        let question = async {
            // It is never closed.
            let _place = inner.places.acquire().await;
            inner.fetcher.post(body, inner.timeout, ANSWER).await
        };
        let answer = timeout(inner.timeout, question).await;
        let answer = answer.unwrap_or(Err(FetchError::Timeout(inner.timeout)));
        let (answered, kept) = match judged(answer, asked) {
            Ok(answered) => {
                if inner.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(url = inner.url, "the back end answers again");
                }
                answered
            }
            Err(error) => {
                if !inner.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        url = inner.url,
                        error,
                        "the back end fails: peers are refused"
                    );
                }
                (Err(failed()), Duration::ZERO)
            }
        };
        if !kept.is_zero() {
            inner.table().keep(self.key, &answered, Instant::now() + kept);
        }
        self.answered = Some(answered);
    }
}

// Returns what an answer says, and for how long it is kept.
fn judged(answer: Result<Answer, FetchError>, asked: u64) -> Result<(Answered, Duration), String> {
    let Answer { status, max_age, body } = answer.map_err(|error| error.to_string())?;
    let code = match status {
        200 => {
            let identity = identity_of(&body, asked)
                .map_err(|problem| format!("the answer cannot be used: {problem}"))?;
            return Ok((Ok(identity), max_age.unwrap_or_default().min(KEPT)));
        }
        401 => Code::UNAUTHORIZED,
        403 => Code::FORBIDDEN,
        other => return Err(format!("the answer has status {other}, and not 200, 401 or 403")),
    };
    Ok((Err(refusal_of(code, &body)), REFUSED))
}

fn failed() -> Refusal {
    Refusal::new(Code::OVERLOADED, "the daemon's back end does not answer: try again later")
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn keep(&mut self, key: Key, answered: &Answered, until: Instant) {
        match answered {
            Ok(identity) => {
                self.identities.put(key, (identity.clone(), until));
                if self.identities.len() > ANSWERS {
                    self.identities.pop_lru();
                }
            }
            Err(refusal) => {
                self.refusals.put(key, (refusal.clone(), until));
                if self.refusals.len() > ANSWERS {
                    self.refusals.pop_lru();
                }
            }
        }
    }
}

// Each part with its length, so that no other parts give the same text.
fn key(credentials: &Credentials<'_>) -> Key {
    let mut hasher = blake3::Hasher::new();
    let address = credentials.address.to_canonical().to_string();
    for part in [credentials.token, credentials.certificate, Some(&*address)] {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        hasher.update(&length.to_le_bytes()).update(part.unwrap_or_default().as_bytes());
    }
    *hasher.finalize().as_bytes()
}

impl Authorize for HttpAuthorize {
    fn authorize<'a>(&'a self, credentials: Credentials<'a>) -> Authorizing<'a> {
        Box::pin(async move {
            if credentials.token.is_some_and(|token| token.len() > MAX_TOKEN) {
                let reason = format!("a token has at most {MAX_TOKEN} bytes");
                return Err(Refusal::new(Code::UNAUTHORIZED, reason));
            }
            match self.look(key(&credentials), &credentials) {
                Ok(answered) => answered,
                Err(question) => question.wait().await.clone(),
            }
        })
    }

    /// Zero, because answers are kept here.
    fn kept(&self) -> Duration {
        Duration::ZERO
    }
}
