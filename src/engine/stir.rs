//! Waking in portions: a publication may concern any number of subscriptions, and no call takes
//! longer for it than others may wait.

use super::filters::{Filters, GroupId, Place};
use super::reading::Registered;
use super::subscription::{News, Subscriptions};
use super::{Engine, Slot, SubscriptionId};
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Who is still to be woken.
#[derive(Debug)]
pub(super) enum Stir {
    /// Those whose filters match a topic, from a place in the tree of filters on.
    Topic {
        name: Arc<str>,
        from: Option<Place>,
        // Whoever had what came before it had everything. Somebody may stand there, and so what
        // leaves the logs from there on is to be remembered.
        news: News,
        registered: Registered,
    },
    /// Those of a list, as above.
    Idle { list: Vec<SubscriptionId>, news: News, registered: Registered },
    /// Those who wait for what arrives in a topic.
    Waiting { list: Vec<SubscriptionId>, slot: Slot },
}

impl Engine {
    /// A topic has a new message: wakes those who had everything before.
    pub(super) fn stir(&mut self, slot: Slot, position: u64) {
        self.recent.moved(slot);
        let Self { topics, filters, subscriptions, stirs, .. } = self;
        let Some(topic) = topics.get(slot).and_then(Option::as_deref) else {
            return;
        };
        let Some(position) = NonZeroU64::new(position) else {
            return;
        };
        let sequence = topic.log.next() - 1;
        let before = topic.log.get(sequence - 1).map_or(topic.log.gone(), |entry| entry.position);
        let news = News { position, sequence, before, slot: slot as u32 };
        let mut from = None;
        if stirs.is_empty() {
            let mut work = self.portions.wakes;
            let tables = (filters, &mut *subscriptions, &mut *stirs);
            from = stir_filters(tables, (&topic.name, None), news, &mut work);
            self.work += self.portions.wakes - work;
            if from.is_none() {
                return;
            }
        }
        let mut registered = Registered::default();
        subscriptions.reading.stand(&mut registered, news.floor());
        stirs.push_back(Stir::Topic { name: topic.name.clone(), from, news, registered });
    }

    /// Those who wait for more of a message, or for its end, have something to read.
    pub(super) fn rouse(&mut self, slot: Slot, waiting: Vec<SubscriptionId>) {
        if waiting.len() > self.portions.wakes {
            return self.stirs.push_back(Stir::Waiting { list: waiting, slot });
        }
        self.work += waiting.len();
        for id in waiting {
            self.subscriptions.rouse(id, slot);
        }
    }

    /// Does a portion of the work that calls have left to be done: waking, and making room. Says
    /// whether there is more of it: then let others have their turn, and call again.
    pub fn tend(&mut self) -> bool {
        let mut work = self.portions.work;
        while work > 2
            && let Some(mut stir) = self.stirs.pop_front()
        {
            let done = match &mut stir {
                Stir::Topic { name, from, news, registered } => {
                    let Self { filters, subscriptions, stirs, .. } = self;
                    let tables = (filters, subscriptions, stirs);
                    *from = stir_filters(tables, (name, *from), *news, &mut work);
                    if from.is_none() {
                        self.subscriptions.reading.forget(registered);
                    }
                    from.is_none()
                }
                Stir::Idle { list, news, registered } => {
                    let rest = list.len() - list.len().min(work);
                    work -= list.len() - rest;
                    for id in list.drain(rest..) {
                        // It may have been read meanwhile.
                        let s = self.subscriptions.get(id);
                        if s.is_some_and(|s| s.idle && s.had <= news.floor()) {
                            self.subscriptions.wake(id, *news);
                        }
                    }
                    if list.is_empty() {
                        self.subscriptions.reading.forget(registered);
                    }
                    list.is_empty()
                }
                Stir::Waiting { list, slot } => {
                    let rest = list.len() - list.len().min(work);
                    work -= list.len() - rest;
                    list.drain(rest..).for_each(|id| self.subscriptions.rouse(id, *slot));
                    list.is_empty()
                }
            };
            if !done {
                self.stirs.push_front(stir);
                break;
            }
        }
        if self.owes_room() {
            self.make_room_for(None, work.min(self.portions.evictions));
        }
        !self.stirs.is_empty() || self.owes_room()
    }

    /// Whether there is something to [tend](Self::tend) to.
    pub fn is_stirred(&self) -> bool {
        !self.stirs.is_empty() || self.owes_room()
    }
}

// Wakes the idle whose filters match; gives where to go on.
fn stir_filters(
    (filters, subscriptions, stirs): (&mut Filters, &mut Subscriptions, &mut VecDeque<Stir>),
    (name, from): (&str, Option<Place>),
    news: News,
    work: &mut usize,
) -> Option<Place> {
    let Filters { tree, groups, .. } = filters;
    tree.matching(name, from, |group: Option<GroupId>| {
        *work = work.saturating_sub(1);
        if let Some(group) = group.and_then(|group| groups.get_mut(group as usize)) {
            if group.idle.len() <= *work {
                *work -= group.idle.len();
                group.idle.drain(..).for_each(|id| subscriptions.wake(id, news));
            } else {
                let (list, mut registered) =
                    (std::mem::take(&mut group.idle), Registered::default());
                subscriptions.reading.stand(&mut registered, news.floor());
                stirs.push_back(Stir::Idle { list, news, registered });
            }
        }
        *work > 0
    })
}
