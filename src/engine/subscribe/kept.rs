//! The end of an earlier run in a topic, for a client that resumes with the epoch of that run.

use crate::engine::runs::{PastRun, Runs};
use crate::engine::topic::Topic;
use crate::engine::topic::after::After;

/// Returns the earlier run in which a topic had an epoch, and the first sequence that the client has to
/// receive anew.
///
/// That is the one after the last message that the run has kept. If some messages before it are torn, and
/// the client has received one of them complete, it is the first of these. `received` tells whether the
/// client has received a sequence.
pub(super) fn end_of_run<'r>(
    topic: &Topic,
    runs: &'r Runs,
    epoch: u64,
    received: impl Fn(u64) -> bool,
) -> Option<(&'r PastRun, u64)> {
    let (past, end) = runs.of_epoch(topic.past(), epoch)?;
    let Some(torn) = runs.torn_in(past.run) else {
        return Some((past, end));
    };
    let here = || torn.known.iter().filter(|torn| torn.topic.1 == topic.id());
    // Otherwise records are missing, and nothing is known of the messages in them.
    let is_torn = torn.more == 0 && here().any(|torn| torn.sequence == end);
    if !is_torn || here().any(|torn| received(torn.sequence)) {
        return Some((past, end));
    }
    let (After::Exactly(kept, _) | After::AtLeast(kept)) = topic.after(past.through);
    Some((past, end.max(kept)))
}
