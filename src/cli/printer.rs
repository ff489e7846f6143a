//! Standard output from a thread of its own: whoever reads a pipe slowly, or not at all, holds up
//! what is printed and nothing else. So the program still hears that it is to stop.

use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Bytes that may wait to be written before the next line waits itself, 64 KiB: as much as a pipe
/// takes. One line more goes beyond it, however long.
const FULL: usize = 64 << 10;

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    finished: bool,
    failed: Option<io::Error>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    // There is something to write, or nothing more will come.
    more: Condvar,
    // Something was written.
    written: Notify,
}

/// Prints lines until it is interrupted.
pub(super) struct Printer {
    shared: Arc<Shared>,
    interrupt: Signal,
}

/// INT came: stop, in good order.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

/// Whom INT has stopped has not failed.
pub(super) fn interruptible(result: anyhow::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.is::<Interrupted>() => Ok(()),
        result => result,
    }
}

impl Shared {
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
    /// From here on INT is heard.
    pub(super) fn start() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        let shared = Arc::<Shared>::default();
        let writes = shared.clone();
        std::thread::Builder::new().name("output".into()).spawn(move || writes.write())?;
        Ok(Self { shared, interrupt })
    }

    /// What comes first: what the future gives, or the interruption.
    pub(super) async fn unless_interrupted<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        tokio::select! {
            output = future => Ok(output),
            _ = self.interrupt.recv() => Err(Interrupted),
        }
    }

    /// Prints lines; waits where many wait.
    pub(super) async fn print(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        let shared = self.shared.clone();
        self.unless_interrupted(async {
            shared.until(|state| state.waiting.len() < FULL).await?;
            shared.lock().waiting.extend_from_slice(lines);
            shared.more.notify_one();
            Ok(())
        })
        .await?
    }

    /// Waits until everything is written.
    pub(super) async fn finish(&mut self) -> anyhow::Result<()> {
        let shared = self.shared.clone();
        shared.lock().finished = true;
        shared.more.notify_one();
        let written = shared.until(|state| state.waiting.is_empty() && !state.writing);
        self.unless_interrupted(written).await??;
        Ok(())
    }
}

impl Shared {
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
