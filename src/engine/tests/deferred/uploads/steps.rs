//! The steps of a run.

use super::super::{FILTERS, TOPICS};
use crate::engine::LargePayloads;
use crate::engine::subscribe::portions::{PORTIONS, Portions};
use crate::wire::{Lag, Start};
use proptest::prelude::*;

/// A subscription has cursors aside in one topic or two.
pub(super) const IMPATIENT: Portions = Portions { aside: 2, aside_free: 1, wakes: 3, ..PORTIONS };

#[derive(Debug, Clone)]
pub(super) enum Step {
    Publish(usize),
    // Large, and complete at once.
    PublishLarge(usize, usize),
    // Under a producer's number, perhaps one that is under way.
    Begin(usize, usize, Option<u64>),
    Append(usize, usize),
    // With all that is missing.
    End(usize),
    Abort(usize),
    Subscribe(Asks),
    Unsubscribe(usize),
    // Goes on where it says that it stands: by one position, or with what was overtaken.
    Resume(usize, bool),
    Follow(usize),
    // A portion of what is left to be done.
    Tend,
    // One that was named reads once, not much more than so many bytes.
    Read(usize, usize),
    // Somebody reads without having been named.
    Look(usize),
    // One that was named asks whether that was all.
    Rest(usize),
    // Time goes on.
    Wait(u64),
    // Somebody asks for one message of a topic.
    Get(usize, Asked),
}

/// The request of a reader.
#[derive(Debug, Clone)]
pub(super) struct Asks {
    pub(super) filter: usize,
    pub(super) large: LargePayloads,
    pub(super) start: Start<'static>,
    pub(super) lag: Lag,
    // 0 is none.
    pub(super) deadline: u64,
}

/// Which message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Latest,
    Sequence(u64),
    // None is the small one.
    Payload(Option<usize>),
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        Just(Asked::Latest),
        (0..20_u64).prop_map(Asked::Sequence),
        proptest::option::of(0..3_usize).prop_map(Asked::Payload),
    ]
}

fn asks() -> impl Strategy<Value = Asks> {
    let large = prop_oneof![
        Just(LargePayloads::InChunks),
        Just(LargePayloads::WhenComplete),
        Just(LargePayloads::AnnounceOnly)
    ];
    let start = prop_oneof![
        2 => Just(Start::New),
        2 => Just(Start::All),
        2 => Just(Start::Latest),
        1 => (0..4_u64).prop_map(Start::Last),
        1 => (0..12_u64).prop_map(Start::Sequence),
    ];
    let lag = prop_oneof![
        3 => Just(Lag::Oldest),
        1 => Just(Lag::Newest),
        1 => Just(Lag::Disconnect),
    ];
    let deadline = prop_oneof![3 => Just(0), 1 => 1..30_u64];
    (0..FILTERS.len(), large, start, lag, deadline).prop_map(
        |(filter, large, start, lag, deadline)| Asks { filter, large, start, lag, deadline },
    )
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let (index, topic, payload) = (0..1000_usize, 0..TOPICS.len(), 0..3_usize);
    let size = prop_oneof![Just(1_usize), Just(1000), Just(20_000), Just(65_536)];
    let budget = prop_oneof![Just(0_usize), Just(1), Just(5000), Just(1 << 20)];
    let number = prop_oneof![2 => Just(None), 1 => (1..4_u64).prop_map(Some)];
    prop_oneof![
        4 => topic.clone().prop_map(Step::Publish),
        1 => (topic.clone(), payload.clone()).prop_map(|(topic, n)| Step::PublishLarge(topic, n)),
        3 => (topic, payload, number).prop_map(|(topic, n, number)| Step::Begin(topic, n, number)),
        4 => (index.clone(), size).prop_map(|(index, size)| Step::Append(index, size)),
        2 => index.clone().prop_map(Step::End),
        1 => index.clone().prop_map(Step::Abort),
        3 => asks().prop_map(Step::Subscribe),
        1 => index.clone().prop_map(Step::Unsubscribe),
        1 => (index.clone(), any::<bool>()).prop_map(|(index, list)| Step::Resume(index, list)),
        1 => index.clone().prop_map(Step::Follow),
        4 => Just(Step::Tend),
        12 => (index.clone(), budget).prop_map(|(index, budget)| Step::Read(index, budget)),
        2 => index.clone().prop_map(Step::Look),
        1 => index.prop_map(Step::Rest),
        2 => (1..10_u64).prop_map(Step::Wait),
        1 => (0..TOPICS.len(), asked()).prop_map(|(topic, asked)| Step::Get(topic, asked)),
    ]
}
