//! What is done in portions, waking above all: a publication may concern any number of
//! subscriptions, and no call takes longer for it than others may wait.

use super::filter_tree::{FilterIndex, Group, GroupId, Place};
use super::table::{News, Subscriptions};
use crate::engine::reading::Registered;
use crate::engine::topic::body::Waiting;
use crate::engine::{Engine, Slot, SubscriptionId};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Publications, and lists, that may leave wakes to be done by somebody else.
const STIRS: usize = 64;

/// Entries of a tree that are taken out of it in one portion, before it goes: 25 ns each.
const TAKEN_APART: usize = 1024;

/// Who is still to be woken.
#[derive(Debug)]
pub(crate) enum Stir {
    /// Those whose filters match a topic, from a place in the tree of filters on.
    Topic {
        name: Arc<str>,
        from: Option<Place>,
        // Whoever had what came before it had everything. Somebody may stand there, and so what
        // leaves the logs from there on is to be remembered.
        news: News,
        registered: Registered,
    },
    /// Those of a list, who have had everything up to `floor`.
    Idle { list: Vec<SubscriptionId>, news: News, floor: u64, registered: Registered },
    /// Those who wait for what arrives in a topic.
    Waiting { list: Waiting, slot: Slot },
}

impl Stir {
    // Up to here those whom it concerns have had everything. The oldest stands in front.
    fn floor(&self) -> Option<u64> {
        match self {
            Self::Topic { news, .. } => Some(news.floor()),
            Self::Idle { floor, .. } => Some(*floor),
            Self::Waiting { .. } => None,
        }
    }
}

impl Engine {
    /// A topic has a new message: wakes those who had everything before.
    pub(crate) fn stir(&mut self, slot: Slot, position: u64) {
        self.recent.moved(slot);
        let Self { topics, filters, subscriptions, stirs, .. } = self;
        if filters.is_empty() {
            return;
        }
        let Some(topic) = topics.get(slot).and_then(Option::as_deref) else {
            return;
        };
        let Some(position) = NonZeroU64::new(position) else {
            return;
        };
        let sequence = topic.log.next() - 1;
        let before = topic.log.get(sequence - 1).map_or(topic.log.gone(), |entry| entry.position);
        let news = News { position, sequence, before, slot: slot as u32 };
        // A first portion at once, whatever others have left to be done: few wait for nobody.
        let mut work = self.portions.wakes;
        let tables = (filters, &mut *subscriptions);
        // Of what others have left to be told, somebody may not know yet.
        let floor = stirs.iter().find_map(Stir::floor).unwrap_or(news.floor());
        let (from, list) = stir_filters(tables, (&topic.name, None), (&news, floor), &mut work);
        self.work += self.portions.wakes - work;
        stirs.extend(list);
        if from.is_none() {
            return;
        }
        let mut registered = Registered::default();
        subscriptions.reading.stand(&mut registered, news.floor());
        stirs.push_back(Stir::Topic { name: topic.name.clone(), from, news, registered });
    }

    /// Those who wait for more of a message, or for its end, have something to read. Gives the work
    /// that it took to tell them now.
    pub(crate) fn rouse(&mut self, slot: Slot, waiting: Waiting) -> usize {
        let many = waiting.len();
        if many > self.portions.wakes {
            self.stirs.push_back(Stir::Waiting { list: waiting, slot });
            return 0;
        }
        for id in waiting {
            self.subscriptions.rouse(id, slot);
        }
        many
    }

    /// Does a portion of the work that calls have left to be done: waking, and making room. Says
    /// whether there is more of it: then let others have their turn, and call again.
    pub fn tend(&mut self) -> bool {
        let mut work = self.portions.wakes;
        while work > 2
            && let Some(mut stir) = self.stirs.pop_front()
        {
            let mut list = None;
            let done = match &mut stir {
                Stir::Topic { name, from, news, registered } => {
                    let tables = (&mut self.filters, &mut self.subscriptions);
                    let floor = news.floor();
                    (*from, list) = stir_filters(tables, (name, *from), (news, floor), &mut work);
                    if from.is_none() {
                        self.subscriptions.reading.forget(registered);
                    }
                    from.is_none()
                }
                Stir::Idle { list, news, floor, registered } => {
                    let rest = list.len() - list.len().min(work);
                    work -= list.len() - rest;
                    for id in list.drain(rest..) {
                        // Something newer may have passed the list of its group meanwhile: so it
                        // looks, also if it has had this.
                        if self.subscriptions.get(id).is_some_and(|s| s.idle) {
                            self.subscriptions.wake(id, news, *floor);
                        }
                    }
                    if list.is_empty() {
                        self.subscriptions.reading.forget(registered);
                    }
                    list.is_empty()
                }
                Stir::Waiting { list, slot } => {
                    while work > 0
                        && let Some(id) = list.pop_last()
                    {
                        work -= 1;
                        self.subscriptions.rouse(id, *slot);
                    }
                    list.is_empty()
                }
            };
            if !done {
                self.stirs.push_front(stir);
            }
            if let Some(list) = list {
                self.stirs.push_front(list);
            }
        }
        if self.owes_room() {
            self.make_room_for(None, self.portions.evictions);
        }
        for _ in 0..TAKEN_APART {
            let Some(known) = self.leavings.last_mut() else {
                break;
            };
            if known.pop_first().is_none() {
                self.leavings.pop();
            }
        }
        self.is_stirred()
    }

    /// Keeps what is long, to be taken apart in portions.
    pub(crate) fn leave(&mut self, known: BTreeMap<u64, u64>) {
        // A node or two go at once.
        if known.len() > 16 {
            self.leavings.push(known);
        }
    }

    /// Whether there is something to [tend](Self::tend) to.
    pub fn is_stirred(&self) -> bool {
        !self.stirs.is_empty() || self.owes_room() || !self.leavings.is_empty()
    }

    /// Whether whoever called is to [tend](Self::tend) to it, and not somebody else later: room is
    /// owed, or many publications have left wakes to be done, so that these do not add up; not if
    /// they were as many `before` the call.
    pub fn is_pressed(&self, before: usize) -> bool {
        self.stirs.len() > before.max(STIRS) || self.owes_room()
    }

    /// How many publications, and lists, have left wakes to be done.
    pub fn stirs(&self) -> usize {
        self.stirs.len()
    }
}

// Wakes the idle whose filters match; gives where to go on, and who is left of the last group.
fn stir_filters(
    (filters, subscriptions): (&mut FilterIndex, &mut Subscriptions),
    (name, from): (&str, Option<Place>),
    (news, floor): (&News, u64),
    work: &mut usize,
) -> (Option<Place>, Option<Stir>) {
    let FilterIndex { tree, groups, .. } = filters;
    let mut left = None;
    let from = tree.matching(name, from, |group: Option<GroupId>| {
        *work = work.saturating_sub(1);
        let at = group.map_or(usize::MAX, |group| group as usize);
        if let Some(group) = groups.get_mut(at) {
            let mut list = std::mem::take(&mut group.idle);
            let rest = list.len() - list.len().min(*work);
            *work -= list.len() - rest;
            for id in list.drain(rest..) {
                wake(id, (news, floor), groups, subscriptions);
            }
            if list.is_empty() && groups[at].idle.is_empty() {
                // Its memory is used again.
                groups[at].idle = list;
            } else if !list.is_empty() {
                let mut registered = Registered::default();
                subscriptions.reading.stand(&mut registered, floor);
                left = Some(Stir::Idle { list, news: *news, floor, registered });
            }
        }
        *work > 0
    });
    (from, left)
}

// Wakes one that has just been taken from the list of its group, unless it has had this: then it
// goes back.
fn wake(
    id: SubscriptionId,
    (news, floor): (&News, u64),
    groups: &mut [Group],
    subscriptions: &mut Subscriptions,
) {
    let Some(s) = subscriptions.get_mut(id).filter(|s| s.idle) else {
        return;
    };
    if s.had.max(s.upto) <= news.floor() {
        return subscriptions.wake(id, news, floor);
    }
    let idle = &mut groups[s.group as usize].idle;
    s.place = idle.len() as u32;
    idle.push(id);
}
