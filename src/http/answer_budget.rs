//! Room for what an answer holds while it is sent: charged to the one budget for what peers make
//! the daemon hold.

use super::Problem;
use crate::engine::{Budget, Charge};
use crate::wire::Code;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What waits for room looks again so often: others give theirs back within a few milliseconds,
/// unless they stand still.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// What waits for room is given up after so long: as long as one may stand still.
pub(super) const PATIENCE: Duration = super::reader::PATIENCE;

/// A request waits for room for so long; then it is refused, and may come again.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Waits for room for so many bytes; none when there is none for so long.
pub(super) async fn wait(budget: &Budget, bytes: usize, patience: Duration) -> Option<Charge> {
    let deadline = Instant::now() + patience;
    loop {
        match budget.take(bytes.min(budget.most())) {
            None if Instant::now() < deadline => sleep(AGAIN).await,
            charge => return charge,
        }
    }
}

/// Room for so many bytes, at once.
pub(super) fn at_once(budget: &Budget, bytes: usize) -> Result<Charge, Problem> {
    budget.take(bytes).ok_or_else(full)
}

/// There is none.
pub(super) fn full() -> Problem {
    Problem::of(
        Code::OVERLOADED,
        "the daemon holds as much for its peers as it may (a quarter of cache.bytes): ask again in \
         a second",
    )
}

/// Bytes that are charged for as long as anybody has them.
pub(super) fn charged<T, C>(bytes: T, charge: C) -> Bytes
where
    T: AsRef<[u8]> + Send + 'static,
    C: Send + 'static,
{
    Bytes::from_owner(Charged { bytes, _charge: charge })
}

struct Charged<T, C> {
    bytes: T,
    _charge: C,
}

impl<T: AsRef<[u8]>, C> AsRef<[u8]> for Charged<T, C> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}
