//! The two state machines of a subscription: its own life, and that of each of its cursors.

use super::cursor::Cursor;
use super::follow::Follow;
use super::sweep::Sweep;
use crate::wire::Refusal;

/// The life of a subscription. Only [`Subscription::set_state`](super::subscription::Subscription::set_state) changes it.
///
/// ```text
///       subscribe from New                    subscribe from anything else
///               |                                           |
///               v        a publication matches              v
///          +--------+ -------------------------------> +--------+
///          | AtHead |                                  | Behind |
///          +--------+ <------------------------------- +--------+
///               |        everything is delivered       |  |   ^
///               |                                      |  |   |  the portion of names
///               |          too many topics have moved, |  |   |  is searched
///               |             or it begins with what   |  v   |
///               |                       is cached      | +----------+
///               |                                      | | Sweeping |
///               |                                      | +----------+
///               v    lagged, or no room in the budget  v       v
///          +---------------------------------------------------------+
///          |                         Ending                          |
///          +---------------------------------------------------------+
///
///       follow  -->  Following, until it ends
/// ```
///
/// A subscription leaves the table from any state, by `Engine::unsubscribe`. While it is `Behind`
/// or `Sweeping` its wake is queued. `AtHead` it may still have cursors aside: when one of their
/// messages arrives, the subscription is woken, reads its window, and stays at the head.
#[derive(Debug)]
pub(crate) enum State {
    /// It has received everything but what its cursors aside wait for. The next publication that
    /// matches wakes it.
    AtHead {
        /// Index in the list of its [group](super::filter_tree::Group), unless a deferred wake
        /// has taken it out of that.
        index: u32,
    },
    /// There may be messages that it has not received: in its window, or beyond that.
    Behind,
    /// It searches the names of all topics for messages that it has not received.
    Sweeping(Box<Sweep>),
    /// It reads one large message.
    Following(Box<Follow>),
    /// It has lost its place, and gets this refusal when it is read.
    Ending(Box<Refusal>),
}

impl State {
    pub(super) fn may_become(&self, next: &Self) -> bool {
        matches!(
            (self, next),
            (Self::AtHead { .. }, Self::AtHead { .. } | Self::Behind | Self::Ending(_))
                | (Self::Behind, Self::AtHead { .. } | Self::Sweeping(_) | Self::Ending(_))
                | (Self::Sweeping(_), Self::Behind | Self::Ending(_))
        )
    }
}

/// The state of a cursor. Only `set_cursor`, `make_ready` and `make_all_ready` of a
/// [`Subscription`](super::subscription::Subscription) change it.
///
/// ```text
///                               more of its message has arrived, or that has ended
///                          +-------------------------------------------------- Stalled
///   search of topics       v                                                     ^
///          |           +-------+  -- it has read all that has arrived -----------+
///          +---------> |       |
///                      | Ready |  -- another large message is open -----------> Blocked
///   all of its   <---- |       |  <-- that ends or stalls, or its own is complete --+
///   topic is read      +-------+
///                          |  ^--- the next window is filled ---------------- NextWindow
///                          +------ it goes on beyond this window ----------------^
/// ```
///
/// `Ready` cursors are in the subscription's window, in the order of their positions. The others
/// are aside, by the slots of their topics. No topic has two cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CursorState {
    /// Its message can be read.
    Ready,
    /// Its message still arrives: it waits for more of it, or for its end.
    Stalled,
    /// Its large message waits until another one, which is open, has ended or stalled.
    Blocked {
        /// Its own message still arrives. The cursor becomes ready when that ends, too.
        arriving: bool,
    },
    /// Its next message belongs to the next window.
    NextWindow,
}

impl CursorState {
    /// Returns whether the subscription is in a list of waiters of the cursor's message.
    pub(crate) fn is_listed(self) -> bool {
        matches!(self, Self::Stalled | Self::Blocked { arriving: true })
    }
}

/// A cursor that is not ready.
#[derive(Debug)]
pub(crate) struct WaitingCursor {
    pub(crate) cursor: Cursor,
    pub(crate) state: CursorState,
}
