//! The end of a benchmark by a signal.

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

/// Returns the result of `work`, or fails if TERM or INT arrives first. `work` is dropped then.
pub(super) async fn unless_interrupted<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = work => result,
        _ = terminate.recv() => bail!("interrupted"),
        _ = interrupt.recv() => bail!("interrupted"),
    }
}
