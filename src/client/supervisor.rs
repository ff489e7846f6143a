//! The task of a client that outlives its sessions: it serves one session after the other, and opens
//! the next when one has ended.

use super::builder::Builder;
use super::connect::{Established, check_server, dial};
use super::driver;
use super::error::{ConnectError, SessionClosed};
use super::handle::Client;
use super::in_flight::Outstanding;
use super::reconnect::{Backoff, leave_after};
use super::session_state::SessionState;
use super::shared::Shared;
use crate::wire::{Code, ProducerId};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

impl Builder {
    /// Connects. Tries each of the server's addresses for at most 5 s. With [`wait`](Self::wait) it
    /// tries again until it succeeds.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        check_server(&self)?;
        // New for each client, because its numbers begin at 1. Its sessions share it, so that the
        // daemon recognises publications that are sent again.
        let producer = ProducerId(rand::random());
        let mut supervisor =
            Supervisor { backoff: Backoff::new(self.reconnect), builder: self, producer };
        let first = if supervisor.builder.wait {
            supervisor.wait().await?
        } else {
            dial(&supervisor.builder, producer).await?
        };
        let (publications, bytes) = supervisor.builder.backlog;
        let outstanding = Outstanding::new(publications, bytes);
        let reconnects = supervisor.builder.reconnect.is_enabled();
        let token = supervisor.builder.token.clone();
        let shared = Arc::new(Shared::new(&first.state, outstanding, token, reconnects));
        let client = Client::new(shared.clone());
        tokio::spawn(async move {
            // All of these end when the client is closed.
            tokio::select! {
                () = supervisor.run(&shared, first) => {}
                () = shared.expire() => {}
                _ = shared.closed() => {}
            }
        });
        Ok(client)
    }
}

impl Client {
    /// Connects over raw QUIC with the default settings.
    pub async fn connect(server: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder(server).connect().await
    }
}

/// Why a client does not open another session.
enum GivenUp {
    /// The time of the policy has passed; the last error.
    Late(SessionClosed),
    /// Another attempt is of no use.
    Final(ConnectError),
}

fn late(since: Instant, why: &SessionClosed) -> String {
    format!("given up after {:.1} s: {}", since.elapsed().as_secs_f64(), why.reason)
}

struct Supervisor {
    builder: Builder,
    producer: ProducerId,
    backoff: Backoff,
}

// A session, and the task that serves it.
struct Served {
    state: Arc<SessionState>,
    began: Instant,
    driver: JoinHandle<()>,
}

impl Served {
    fn begin(shared: &Arc<Shared>, established: Established) -> Self {
        let Established { state, send, receive, reader } = established;
        let driver = driver::run(shared.clone(), state.clone(), send, receive, reader);
        Self { state, began: Instant::now(), driver: tokio::spawn(driver) }
    }

    // Waits for the end of the session.
    async fn over(&mut self) -> SessionClosed {
        let failed = tokio::select! {
            failed = &mut self.driver => failed.err(),
            () = self.state.over.notified() => None,
        };
        match failed {
            None => self.state.close_reason(),
            Some(error) => {
                let reason = format!("a task of the client failed: {error}");
                SessionClosed { code: None, reason, retry: false }
            }
        }
    }
}

impl Supervisor {
    // Serves the first session and all that follow, and closes the client after the last.
    async fn run(&mut self, shared: &Arc<Shared>, first: Established) {
        let mut served = Served::begin(shared, first);
        let why = loop {
            let state = served.state.clone();
            let (closed, next) = tokio::select! {
                closed = served.over() => (closed, None),
                (closed, next) = self.succeed(&state), if shared.reconnects => {
                    (closed, Some(next))
                }
            };
            let lost = Instant::now();
            // It has failed already, unless another takes its place, or its task has panicked.
            served.state.fail(closed.clone());
            self.backoff.session_ended(lost - served.began);
            shared.detach();
            if !closed.retry || !shared.reconnects {
                break closed;
            }
            let next = match next {
                Some(next) => {
                    // Its driver notices, and ends.
                    served.state.connection.close(Code::DONE, "");
                    next
                }
                None => match self.reconnect(shared, lost, closed).await {
                    Ok(next) => next,
                    Err(why) => break why,
                },
            };
            // A session that is not attached ends here, because nothing else has it.
            if !shared.attach(&next.state, self.backoff.attempts(), lost.elapsed()) {
                return;
            }
            served = Served::begin(shared, next);
        };
        shared.close(why);
    }

    // Waits until the daemon says that it is about to stop, and opens a session in place of this one.
    // Until then this one continues.
    async fn succeed(&mut self, state: &SessionState) -> (SessionClosed, Established) {
        let (within, reason) = state.drained().await;
        let until = Instant::now() + within;
        tracing::debug!(?within, reason, "the daemon is about to stop");
        sleep(leave_after(within, rand::random())).await;
        // Its own pauses, because the session has not ended yet. The first attempt has none.
        let mut backoff = Backoff::new(self.builder.reconnect);
        backoff.session_ended(Duration::ZERO);
        loop {
            match dial(&self.builder, self.producer).await {
                Ok(next) => {
                    let code = Some(Code::SHUTTING_DOWN);
                    return (SessionClosed { code, reason, retry: true }, next);
                }
                Err(error) => tracing::debug!(%error, "no session in place of this one yet"),
            }
            let pause = backoff.pause(Duration::ZERO, rand::random()).unwrap_or_default();
            if Instant::now() + pause >= until {
                // The daemon ends the session, which leads to a reconnect.
                std::future::pending::<()>().await;
            }
            sleep(pause).await;
        }
    }

    // Opens a session after one has ended.
    async fn reconnect(
        &mut self,
        shared: &Shared,
        lost: Instant,
        why: SessionClosed,
    ) -> Result<Established, SessionClosed> {
        let report = |attempt, pause, why: &SessionClosed| {
            shared.reconnecting(attempt, pause, why.clone());
        };
        match self.attempts(lost, why, report).await {
            Ok(next) => Ok(next),
            Err(GivenUp::Late(why)) => Err(SessionClosed { reason: late(lost, &why), ..why }),
            Err(GivenUp::Final(error)) => Err(SessionClosed::not_connected(&error)),
        }
    }

    // Opens the first session, and waits for a daemon that does not run yet.
    async fn wait(&mut self) -> Result<Established, ConnectError> {
        let (began, server) = (Instant::now(), self.builder.server.clone());
        let report = |attempt, pause: Duration, why: &SessionClosed| {
            if attempt > 1 {
                tracing::info!(why = why.reason, ?pause, "not connected yet");
            }
        };
        // Replaced when the first attempt fails.
        let none = SessionClosed { code: None, reason: String::new(), retry: true };
        match self.attempts(began, none, report).await {
            Ok(next) => Ok(next),
            Err(GivenUp::Late(why)) => {
                Err(ConnectError::Transport { server, reason: late(began, &why) })
            }
            Err(GivenUp::Final(error)) => Err(error),
        }
    }

    // Tries until a session is open, or it is of no use. Reports each attempt with its pause and the
    // reason why it is necessary.
    async fn attempts(
        &mut self,
        since: Instant,
        mut why: SessionClosed,
        report: impl Fn(u32, Duration, &SessionClosed),
    ) -> Result<Established, GivenUp> {
        loop {
            let Some(pause) = self.backoff.pause(since.elapsed(), rand::random()) else {
                return Err(GivenUp::Late(why));
            };
            report(self.backoff.attempts(), pause, &why);
            sleep_until(Instant::now() + pause).await;
            let dialled = dial(&self.builder, self.producer);
            let dialled = match self.backoff.left(since.elapsed()) {
                Some(left) => timeout(left, dialled).await.ok(),
                None => Some(dialled.await),
            };
            match dialled {
                Some(Ok(established)) => return Ok(established),
                Some(Err(error)) if !error.may_pass() => return Err(GivenUp::Final(error)),
                Some(Err(error)) => why = SessionClosed::not_connected(&error),
                // The policy's time has passed, which the next pause finds out.
                None => {}
            }
        }
    }
}
