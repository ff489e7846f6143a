//! The engine decides: topics, cache, counts, logs, cursors, sessions. No I/O, no runtime, no clock.
//!
//! # The contract
//!
//! An [`Engine`] is plain memory. Its owner (in the daemon: one mutex) calls it, takes the outputs,
//! and acts on them. The engine never blocks or waits, and has no clock. Time is an argument: `now`
//! is µs since 1970, and is only compared.
//!
//! - **In.** [`publish`](Engine::publish) accepts a publication once: it counts, caches and logs it,
//!   and wakes the subscriptions that had received everything before. [`subscribe`](Engine::subscribe)
//!   and [`unsubscribe`](Engine::unsubscribe) begin and end subscriptions.
//!   [`get`](Engine::get) and [`top`](Engine::top) look things up. A large payload may be published
//!   while it arrives: [`begin`](Engine::begin), [`append`](Engine::append), and
//!   [`end`](Engine::end) or [`abort`](Engine::abort).
//! - **Out.** After every call that may publish, [`take_wakes`](Engine::take_wakes) lists the
//!   subscriptions that have something to read, or to search for. For each of them call
//!   [`read`](Engine::read) until it yields nothing. Only then will it be listed again. Each is
//!   listed once in between, so the list has at most as many entries as there are subscriptions.
//!   [`take_ended`](Engine::take_ended) lists those that have ended: their indexes may be reused
//!   from then on.
//! - **Replay is the only operation.** A subscription is a position, and, while it is behind, a
//!   window of cursors. `read` yields the messages between the position and the head: for live,
//!   late, resumed and slow subscriptions alike. Messages that have left the log are a gap. A large
//!   message on a stream of its own is a subscription to that one message:
//!   [`follow`](Engine::follow).
//! - **Order.** A subscription receives messages in the order of their positions. That is the order
//!   in which they were accepted, or began to arrive, over all topics that its filter matches.
//!   Messages of other topics may overtake one that still arrives.
//! - **Bounds.** See [`Limits`]. When the byte budget is exceeded, the topic with the most evictable
//!   bytes evicts what it used least recently. Each topic's newest message is last. Then the least
//!   recently used topics are forgotten, and subscriptions that had not received all of one end.
//!   Bytes that peers make the daemon hold beside the topics are charged to one [`Budget`].
//! - **Time.** [Rules](TopicRules) may say for how long messages are kept. If they do, the engine
//!   [needs the time](Engine::needs_time): [tell it](Engine::tell_time) before each call, and call
//!   [`expire`](Engine::expire) several times a second. Nobody gets what has expired, whether or not
//!   it has been dropped yet.
//! - **Work.** Every call does a bounded amount of work: 64 KiB or 2,048 topics in a read, 64 wakes
//!   and 512 evictions in a publication. The rest is deferred. While the engine
//!   [has deferred work](Engine::has_deferred), call [`run_deferred`](Engine::run_deferred), and
//!   release the lock between the calls. Call it at once if
//!   [it must be run](Engine::must_run_deferred). A caller that handles several frames under one
//!   lock [begins to measure](Engine::begin_work), and stops when the
//!   [work is spent](Engine::is_work_spent). So every call takes less than 1 ms at the default
//!   limits.
//!
//! [`Session`] does the same for one remote peer: frames in, frames and actions out.
//!
//! Inputs and outputs, such as [`Publication`], [`Action`], [`Item`], [`Record`] and [`Part`], are not
//! `#[non_exhaustive]`. An owner that did not pass on a field, or did not handle a variant, would lose
//! messages. So the compiler should report one that is new.

mod accounts;
mod budget;
pub(crate) mod cost;
mod figures;
pub(crate) mod ids;
mod limits;
mod listing;
mod memory;
mod payload;
mod positions;
mod publication;
mod publish;
mod query;
mod record;
mod records;
mod renew;
pub mod replica;
mod restore;
mod restoring;
mod rope;
mod runs;
mod session;
mod snapshot;
mod subscribe;
mod topic;
pub(crate) mod topic_rules;
mod torn;

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;

pub use budget::{Budget, Charge};
pub use figures::EngineFigures;
pub use ids::{SubscriptionId, UploadId};
pub use limits::Limits;
#[cfg(feature = "cli")]
pub(crate) use limits::MAX_PAYLOAD;
pub use listing::TopicStats;
pub use payload::Payload;
pub use publication::{Publication, PublicationId, Receipt};
pub use publish::upload::{BeginOutcome, UploadError, UploadRequest};
pub use query::Ranking;
pub use record::{Change, Place, Record, Total};
#[cfg(any(test, feature = "daemon"))]
pub(crate) use restoring::HIGHEST;
pub use rope::Rope;
pub use runs::{PastRun, TornMessage, TornMessages};
pub use session::Session;
pub use session::action::{Action, GetReply};
pub use session::frames::{Channel, Hashing, Prepared, Publishing, Subscribing, encode_item};
pub use session::upload::IncomingUpload;
#[cfg(feature = "daemon")]
pub(crate) use session::upload::no_room;
pub use snapshot::{
    Capture, EngineState, Part, SavedBody, SavedCount, SavedKey, SavedMessage, SavedRank,
    SavedWindow, TopicState,
};
pub use subscribe::item::{Item, MessageRef};
pub use subscribe::progress::Overtaken;
pub use subscribe::read_options::{LargePayloads, ReadOptions};
pub use subscribe::repair::Repaired;
pub use subscribe::skips::Skips;
pub use subscribe::start::PreparedStart;
pub use subscribe::stats::SubscriptionStats;
pub use topic::idempotency_keys::IdempotencyKeys;
pub use topic_rules::{
    Keep, MAX_TOPIC_RULES, Public, TopicRule, TopicRuleError, TopicRuleProblem, TopicRules,
};

use crate::wire::Refusal;
use foldhash::fast::RandomState;
use ids::Slot;
use lru::LruCache;
use memory::evicted_counts::EvictedCounts;
use memory::fair_share::Shares;
use record::Records;
use restoring::Restoring;
use runs::Runs;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    num::NonZeroUsize,
    sync::Arc,
};
use subscribe::deferred_work::DeferredWork;
use subscribe::filter_tree::FilterIndex;
use subscribe::forgotten::Forgotten;
use subscribe::portions::{PORTIONS, Portions};
use subscribe::table::Subscriptions;
use topic::Topic;
use topic::recent::Recent;

/// Maximum number of topics for which the tables reserve memory in advance.
const RESERVED: usize = 1 << 20;

/// Units of work after which a caller is to release the lock for others. A unit takes 100 ns at
/// most, so that this is 0.4 ms.
const WORK: usize = 4096;

/// Topics, cache, counts and cursors of one daemon. See the [module](self) for the contract.
///
/// ```
/// use weir::engine::{Engine, Limits, Payload, Publication};
/// use weir::wire::{Digest, Filter, Lag, Start};
///
/// let mut engine = Engine::new(Limits::default(), 1 << 40, [7; 32]);
/// let news = engine.subscribe(Filter::new("demo/*")?, &Start::New, Lag::Oldest);
/// let payload = Payload::from(bytes::Bytes::from_static(b"hello"));
/// let digest = Digest::of(b"hello");
/// let hello = Publication { topic: "demo/a", payload: &payload, digest, stamp: 0, origin: None };
/// let receipt = engine.publish(1_800_000_000_000_000, &hello)?;
/// assert_eq!((receipt.sequence, receipt.count), (1, 1));
///
/// let mut woken = Vec::new();
/// engine.take_wakes(&mut woken);
/// assert_eq!(woken, [news]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    limits: Limits,
    rules: TopicRules,
    // Whether these rules, or earlier ones that topics still follow, need the time.
    needs_time: bool,
    // The time, as the shell has told it last, µs since 1970.
    now: u64,
    runs: Runs,
    secret: [u8; 32],
    keys_secret: Option<[u8; 32]>,
    // Position of the last message that was accepted, or began to arrive.
    position: u64,
    // Number of uploads that have become complete.
    completed_uploads: u64,
    topics: Vec<Option<Box<Topic>>>,
    free: Vec<Slot>,
    // In the order of the last publication; and in the order of names.
    by_use: LruCache<Arc<str>, Slot, RandomState>,
    by_name: BTreeMap<Arc<str>, Slot>,
    by_id: HashMap<u64, Slot, RandomState>,
    recent: Recent,
    // Records of forgotten topics that some subscription had not received completely.
    forgotten: Forgotten,
    // Forgotten topics that are still to be emptied.
    forgotten_topics: VecDeque<Box<Topic>>,
    next_topic: u64,
    // When topics are to be looked at because a message's time has come, each topic once at most.
    schedule: BTreeSet<(u64, Slot)>,
    shares: Shares,
    evicted_counts: EvictedCounts,
    // Cost of all topics.
    bytes: usize,
    // For bytes that peers make the daemon hold beside the topics.
    budget: Budget,
    filters: FilterIndex,
    subscriptions: Subscriptions,
    deferred: DeferredWork,
    next_session: u64,
    // A publication has exceeded the budget, and its portion of evictions was not enough.
    owes_room: bool,
    portions: Portions,
    records: Records,
    // Topics are not forgotten while records are restored, because those say which ones were.
    restoring: Option<Box<Restoring>>,
    // While an engine is restored: the position after which messages of this run are missing.
    missing_after: Option<u64>,
    // A log decides what is accepted, and these are for it.
    proposals: Option<Box<replica::Proposals>>,
    // Why new publications are refused.
    refusal: Option<Box<Refusal>>,
    // Units of work since `begin_work`.
    work: usize,
    // For `figures`, without those that are found elsewhere.
    figures: EngineFigures,
}

impl fmt::Debug for Engine {
    // Without the secret, and without what peers have published.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("run", &self.run())
            .field("position", &self.position)
            .field("topics", &self.by_name.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Creates an empty engine.
    ///
    /// `run` names this run. It must not be 0. Epochs count up from it, so it must be far from those
    /// that were used before. A random number of 52 bits is. The time of day is not, because clocks
    /// are set back. `secret` makes the keys of the tables of counts unguessable.
    pub fn new(limits: Limits, run: u64, secret: [u8; 32]) -> Self {
        let limits = limits.applied();
        // Memory for the tables of topics is reserved now: a table that grows would block all
        // callers. The system provides the memory when it is used.
        let topics = limits.topics.min(RESERVED);
        // The engine itself keeps the cache of names below its capacity. With `resize`, the cache
        // would free its table.
        let by_use = match NonZeroUsize::new(restoring::most_topics(limits.topics) + 1) {
            Some(most) if limits.topics <= RESERVED => {
                LruCache::with_hasher(most, RandomState::default())
            }
            _ => LruCache::unbounded_with_hasher(RandomState::default()),
        };
        Self {
            limits,
            rules: TopicRules::default(),
            needs_time: false,
            now: 0,
            runs: Runs::new(run),
            secret,
            keys_secret: None,
            position: 0,
            completed_uploads: 0,
            topics: Vec::new(),
            free: Vec::new(),
            by_use,
            by_name: BTreeMap::new(),
            by_id: HashMap::with_capacity_and_hasher(topics, RandomState::default()),
            recent: Recent::default(),
            forgotten: Forgotten::default(),
            forgotten_topics: VecDeque::new(),
            next_topic: 1,
            schedule: BTreeSet::new(),
            shares: Shares::default(),
            evicted_counts: EvictedCounts::new(limits.counts()),
            bytes: 0,
            budget: Budget::new(limits.held()),
            filters: FilterIndex::default(),
            subscriptions: Subscriptions::default(),
            deferred: DeferredWork::default(),
            next_session: 1,
            owes_room: false,
            portions: PORTIONS,
            records: Records::default(),
            restoring: None,
            missing_after: None,
            proposals: None,
            refusal: None,
            work: 0,
            figures: EngineFigures::default(),
        }
    }

    /// Sets the rules of topics that are made from now on.
    #[must_use]
    pub fn with_topic_rules(mut self, rules: TopicRules) -> Self {
        self.set_topic_rules(rules);
        self
    }

    /// Replaces the rules. A topic keeps the rule that it was made with; one that is forgotten and
    /// made again follows the new rules.
    pub fn set_topic_rules(&mut self, rules: TopicRules) {
        self.needs_time |= rules.needs_time();
        self.rules = rules;
    }

    /// Returns the limits as they are applied.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns the name of this run.
    pub fn run(&self) -> u64 {
        self.runs.current()
    }

    /// Returns how many messages were accepted in this run, or began to arrive.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the number of topics.
    pub fn topics(&self) -> usize {
        self.by_name.len()
    }

    /// Turns idempotency keys into publication ids. A key is a text that a publisher chooses for one
    /// publication, so that a repetition is recognised.
    ///
    /// Beside its producers, a topic remembers as many keys as [producers](Limits::producers), each
    /// with its receipt.
    pub fn keys(&self) -> IdempotencyKeys {
        IdempotencyKeys::new(self.keys_secret.unwrap_or(self.secret))
    }

    /// Sets a secret for [`keys`](Self::keys) that other engines have too, so that a key means the same
    /// to all.
    pub fn share_keys(&mut self, secret: [u8; 32]) {
        self.keys_secret = Some(secret);
    }

    /// Begins to measure work.
    pub fn begin_work(&mut self) {
        self.work = 0;
    }

    /// Returns whether the work since it [began](Self::begin_work) is so much that the caller is to
    /// release the lock for others.
    pub fn is_work_spent(&self) -> bool {
        self.work >= WORK
    }

    /// Refuses new publications for a reason, or accepts them again. Those that are repeated get their
    /// receipts. Those that arrive are refused with their next bytes.
    pub fn refuse_publications(&mut self, why: Option<Refusal>) {
        self.refusal = why.map(Box::new);
    }

    fn may_publish(&self) -> Result<(), Refusal> {
        self.refusal.as_deref().map_or(Ok(()), |why| Err(why.clone()))
    }

    /// Returns the number of subscriptions.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// Returns the bytes charged to the cache: topics and messages, bytes that peers make the daemon
    /// hold beside them, and the part that is reserved for counts.
    pub fn bytes(&self) -> usize {
        self.bytes + self.budget.held() + self.limits.cache / 4
    }

    /// Returns the budget for bytes that peers make the daemon hold beside the topics: a quarter of
    /// the cache. The topics evict messages for them with the next publication.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    fn topic(&self, slot: Slot) -> Option<&Topic> {
        self.topics.get(slot)?.as_deref()
    }

    fn slot(&self, name: &str) -> Option<Slot> {
        self.by_use.peek(name).copied()
    }
}
