//! Memory that an answer holds while it is sent. It is charged to the one budget for everything that
//! peers make the daemon hold.

use super::Problem;
use crate::engine::{Budget, Charge};
use crate::wire::Code;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Interval at which a waiting answer tries again. Others release their room within a few
/// milliseconds, unless their clients do not read.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// Maximum time that an answer under way waits for room: as long as a client may leave an answer
/// unread.
pub(super) const PATIENCE: Duration = crate::net::deadlines::UNREAD;

/// Maximum time that a request waits for room. After that it is refused, and the client may retry.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Waits for room for `bytes`. Returns `None` if there is not enough within `patience`.
pub(super) async fn wait(budget: &Budget, bytes: usize, patience: Duration) -> Option<Charge> {
    let deadline = Instant::now() + patience;
    loop {
        match budget.take(bytes.min(budget.most())) {
            None if Instant::now() < deadline => sleep(AGAIN).await,
            charge => return charge,
        }
    }
}

/// Takes room for `bytes`, without waiting.
pub(super) fn at_once(budget: &Budget, bytes: usize) -> Result<Charge, Problem> {
    budget.take(bytes).ok_or_else(full)
}

/// Returns the refusal for lack of room.
pub(super) fn full() -> Problem {
    Problem::of(
        Code::OVERLOADED,
        "the daemon holds as much for its peers as it may (a quarter of cache.bytes): try again in \
         a second",
    )
}

/// Returns bytes whose charge is released with their last reference.
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
