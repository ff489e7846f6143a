//! Many sessions at once.

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Handshakes under way at once: as many as keep two cores busy. Beyond 256 the daemon would let
/// each prove its address first.
const AT_ONCE: u64 = 64;

/// Opens so many in a runtime; gives up with the first that fails.
pub(super) async fn open<T, F>(
    runtime: &Handle,
    sessions: u64,
    one: impl Fn(u64) -> F,
) -> anyhow::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let (mut opening, mut opened) = (JoinSet::new(), Vec::new());
    for number in 0..sessions {
        if opening.len() as u64 >= AT_ONCE
            && let Some(session) = opening.join_next().await
        {
            opened.push(session??);
        }
        opening.spawn_on(one(number), runtime);
    }
    while let Some(session) = opening.join_next().await {
        opened.push(session??);
    }
    Ok(opened)
}
