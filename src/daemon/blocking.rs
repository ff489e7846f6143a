//! Calls that block, on threads of their own.

use std::panic::resume_unwind;

/// Runs what writes and syncs files, which would block the tasks of this thread.
pub(super) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(run).await;
    done.unwrap_or_else(|failed| resume_unwind(failed.into_panic()))
}
