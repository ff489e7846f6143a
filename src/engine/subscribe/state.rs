//! The two state machines of a subscription: its own life, and that of each of its cursors.

use super::cursor::Cursor;
use super::single_message::Follow;
use super::sweep::Sweep;
use super::table::Subscription;
use crate::wire::Refusal;
use std::cmp::Reverse;

/// The life of a subscription. Only [`Subscription::set_state`] changes it.
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
    fn may_become(&self, next: &Self) -> bool {
        matches!(
            (self, next),
            (Self::AtHead { .. }, Self::AtHead { .. } | Self::Behind | Self::Ending(_))
                | (Self::Behind, Self::AtHead { .. } | Self::Sweeping(_) | Self::Ending(_))
                | (Self::Sweeping(_), Self::Behind | Self::Ending(_))
        )
    }
}

/// The state of a cursor. Only [`Subscription::set_cursor`], [`Subscription::make_ready`] and
/// [`Subscription::make_all_ready`] change it.
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

impl Subscription {
    /// Changes the state, and returns the one before.
    pub(crate) fn set_state(&mut self, next: State) -> State {
        debug_assert!(self.state.may_become(&next), "{:?} becomes {next:?}", self.state);
        std::mem::replace(&mut self.state, next)
    }

    pub(crate) fn is_at_head(&self) -> bool {
        matches!(self.state, State::AtHead { .. })
    }

    pub(crate) fn is_sweeping(&self) -> bool {
        matches!(self.state, State::Sweeping(_))
    }

    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.state, State::Ending(_))
    }

    /// Returns whether there is nothing to read until the subscription is woken.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_at_head() && self.window.is_empty()
    }

    /// Puts a cursor that is in no table where its state belongs.
    pub(crate) fn set_cursor(&mut self, cursor: Cursor, state: CursorState) {
        debug_assert!(!self.aside.contains_key(&cursor.slot), "a topic with two cursors");
        match state {
            // Not `extend`, which may rebuild the whole heap.
            CursorState::Ready => self.window.push(Reverse(cursor)),
            _ => _ = self.aside.insert(cursor.slot, WaitingCursor { cursor, state }),
        }
    }

    /// Makes the waiting cursor of a topic ready. Returns whether there was one.
    pub(crate) fn make_ready(&mut self, slot: u32) -> bool {
        let Some(waiting) = self.aside.remove(&slot) else {
            return false;
        };
        self.window.push(Reverse(waiting.cursor));
        true
    }

    /// Makes all waiting cursors ready whose state `is` accepts.
    pub(crate) fn make_all_ready(&mut self, is: impl Fn(CursorState) -> bool) {
        let ready = self.aside.extract_if(|_, waiting| is(waiting.state));
        self.window.extend(ready.map(|(_, waiting)| Reverse(waiting.cursor)));
    }
}
