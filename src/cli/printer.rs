//! Standard output in a separate thread. A slow reader of a pipe delays the output and nothing else,
//! so the program still stops at INT, TERM and HUP.

use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Bytes that may be queued before [`Printer::print`] waits: 64 KiB, the capacity of a pipe. The last
/// line in the queue may exceed it.
const FULL: usize = 64 << 10;

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    finished: bool,
    failed: Option<io::Error>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    // Signalled when there is something to write, or when the output is finished.
    more: Condvar,
    // Signalled when something was written.
    written: Notify,
}

/// Prints lines until it is interrupted.
pub(super) struct Printer {
    queue: Arc<Queue>,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// INT, TERM or HUP arrived: the verb stops in good order, with a goodbye to the daemon.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

/// A verb that a signal has stopped has not failed.
pub(super) fn interruptible(result: anyhow::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.is::<Interrupted>() => Ok(()),
        result => result,
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) {
        let mut lines = Vec::new();
        loop {
            {
                let idle = |state: &mut State| state.waiting.is_empty() && !state.finished;
                let state = self.more.wait_while(self.lock(), idle);
                let mut state = state.unwrap_or_else(PoisonError::into_inner);
                if state.waiting.is_empty() {
                    return;
                }
                state.writing = true;
                std::mem::swap(&mut state.waiting, &mut lines);
            }
            let mut out = io::stdout().lock();
            let written = out.write_all(&lines).and_then(|()| out.flush());
            drop(out);
            lines.clear();
            let mut state = self.lock();
            state.writing = false;
            let failed = written.is_err();
            state.failed = written.err();
            drop(state);
            self.written.notify_waiters();
            if failed {
                return;
            }
        }
    }
}

impl Printer {
    /// Starts the thread. From here on INT, TERM and HUP no longer kill the process.
    pub(super) fn start() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let hangup = signal(SignalKind::hangup())?;
        let queue = Arc::<Queue>::default();
        let writer = queue.clone();
        std::thread::Builder::new().name("output".into()).spawn(move || writer.write())?;
        Ok(Self { queue, interrupt, terminate, hangup })
    }

    /// Returns the output of the future, or fails if a signal to stop arrives first.
    pub(super) async fn unless_interrupted<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        tokio::select! {
            output = future => Ok(output),
            _ = self.interrupt.recv() => Err(Interrupted),
            _ = self.terminate.recv() => Err(Interrupted),
            _ = self.hangup.recv() => Err(Interrupted),
        }
    }

    /// Queues lines for output. Waits while the queue is full.
    pub(super) async fn print(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        let queue = self.queue.clone();
        self.unless_interrupted(async {
            queue.until(|state| state.waiting.len() < FULL).await?;
            queue.lock().waiting.extend_from_slice(lines);
            queue.more.notify_one();
            Ok(())
        })
        .await?
    }

    /// Waits until everything is written.
    pub(super) async fn finish(&mut self) -> anyhow::Result<()> {
        let queue = self.queue.clone();
        queue.lock().finished = true;
        queue.more.notify_one();
        let written = queue.until(|state| state.waiting.is_empty() && !state.writing);
        self.unless_interrupted(written).await??;
        Ok(())
    }
}

impl Queue {
    async fn until(&self, done: impl Fn(&State) -> bool) -> io::Result<()> {
        loop {
            let written = self.written.notified();
            {
                let mut state = self.lock();
                if let Some(error) = state.failed.take() {
                    return Err(error);
                }
                if done(&state) {
                    return Ok(());
                }
            }
            written.await;
        }
    }
}
