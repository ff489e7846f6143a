//! What decides: topics, cache, counts, logs, cursors, sessions. No I/O, no runtime, no clock.
//!
//! # The contract
//!
//! An [`Engine`] is plain memory. Whoever owns it (in the daemon: one mutex) calls in, takes the
//! outputs, and acts on them; nothing here blocks, waits or looks at the time. Time is an
//! argument: `now` is µs since 1970, and only ever compared.
//!
//! - **In.** [`publish`](Engine::publish) accepts a publication once: count, cache, log, and wake
//!   whoever had everything before. [`subscribe`](Engine::subscribe) and
//!   [`unsubscribe`](Engine::unsubscribe) begin and end subscriptions.
//!   [`get`](Engine::get) and [`top`](Engine::top) look.
//!   A large payload may be published while it arrives: [`begin`](Engine::begin),
//!   [`append`](Engine::append), [`end`](Engine::end), or [`abort`](Engine::abort).
//! - **Out.** After every call that may publish, [`take_wakes`](Engine::take_wakes) names the
//!   subscriptions that have something to read, or to look for. For each of them call
//!   [`read`](Engine::read) until it gives nothing: then, and only then, will it be named again.
//!   Each is named at most once in between, so the list is never longer than the number of
//!   subscriptions. [`take_ended`](Engine::take_ended) names those that have ended: an index may
//!   be another's from then on.
//! - **Replay is the only operation.** A subscription is a position, and while it is behind a
//!   window of cursors. `read` hands out what lies between it and the head: live, late, after a
//!   reconnect or far behind alike. What has fallen out of the log is told as a gap.
//!   A large message that is sent apart from the others is a subscription of its own, to that one
//!   message: [`follow`](Engine::follow).
//! - **Order.** A subscription sees messages in the order of their positions, which is the order
//!   in which they were accepted, or began to arrive, over all topics that its filter matches.
//!   Those of other topics may overtake what is still arriving.
//! - **Bounds.** See [`Limits`]. When the byte budget is exceeded, the topic with the most to
//!   give up gives up what it used longest ago; each topic's newest message goes last, and then
//!   the topics idle longest are forgotten. A subscription that had not read all of one ends. What
//!   peers make the daemon hold beside the topics is charged to one [`Budget`].
//! - **Work.** No call does more than a bounded amount of it, whatever there is: 64 KiB or 2,048
//!   topics in a read, 64 wakes and 1,024 evictions in a publication. The rest is left for
//!   [`tend`](Engine::tend), in portions: call it while the engine [is
//!   stirred](Engine::is_stirred), and let others have their turn in between; at once while it [is
//!   pressed](Engine::is_pressed). Who hands several
//!   frames in under one lock begins to [measure](Engine::begin_work), and stops when the engine
//!   [is tired](Engine::is_tired). So no call takes more than 1 ms at the default limits.
//!
//! [`Session`] is the same for one remote peer: frames in, frames and actions out.

mod budget;
mod limits;
mod memory;
mod payload;
mod publish;
mod query;
mod reading;
mod rope;
mod session;
mod subscribe;
mod topic;

#[cfg(test)]
mod tests;

pub use budget::{Budget, Charge};
pub use limits::Limits;
pub use payload::Payload;
pub use publish::upload::{BeginOutcome, UploadError, UploadId, UploadRequest};
pub use publish::{Publication, Receipt};
pub use query::Ranking;
pub use rope::Rope;
pub use session::Session;
pub use session::action::{Action, GetReply};
pub use session::frames::{Channel, Hashing, Prepared, Publishing, Subscribing, encode_item};
pub use session::upload::IncomingUpload;
#[cfg(feature = "daemon")]
pub(crate) use session::upload::no_room;
pub use subscribe::item::{Item, MessageRef};
pub use subscribe::progress::Overtaken;
pub use subscribe::repair::Repaired;
pub use subscribe::replay::{LargePayloads, ReadOptions};
pub use subscribe::start::Beginning;
pub use subscribe::table::SubscriptionId;
pub use topic::idempotency_keys::IdempotencyKeys;
pub use topic::log::PublicationId;

use foldhash::fast::RandomState;
use lru::LruCache;
use memory::evicted_counts::EvictedCounts;
use memory::fair_share::Shares;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
};
use subscribe::discover::{PORTIONS, Portions};
use subscribe::filter_tree::FilterIndex;
use subscribe::forgotten::Forgotten;
use subscribe::stir::Stir;
use subscribe::table::Subscriptions;
use topic::Topic;
use topic::recent::Recent;

/// Index into the table of topics; reused after a topic was forgotten.
type Slot = usize;

/// Topics for which there is room in the tables from the beginning.
const PROMISED: usize = 1 << 20;

/// Work after which a call that handles several frames, or one of several portions, is to let
/// others have their turn. A unit takes 100 ns at most, so that this is 0.4 ms.
const WORK: usize = 4096;

/// Topics, cache, counts and cursors of one daemon. See the [module](self) for the contract.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    run: u64,
    secret: [u8; 32],
    // Messages accepted so far, or begun: the position of the last.
    position: u64,
    // Publications that arrived in parts, and are complete.
    uploads: u64,
    topics: Vec<Option<Box<Topic>>>,
    free: Vec<Slot>,
    // In the order of the last publication; and in the order of names.
    by_use: LruCache<Arc<str>, Slot, RandomState>,
    by_name: BTreeMap<Arc<str>, Slot>,
    by_id: HashMap<u64, Slot, RandomState>,
    recent: Recent,
    forgotten: Forgotten,
    // Forgotten, and not emptied yet.
    dying: VecDeque<Box<Topic>>,
    next_topic: u64,
    shares: Shares,
    evicted_counts: EvictedCounts,
    // Cost of all topics; and what peers make the daemon hold beside them.
    bytes: usize,
    budget: Budget,
    filters: FilterIndex,
    subscriptions: Subscriptions,
    // Whom to wake still, oldest first.
    stirs: VecDeque<Stir>,
    next_session: u64,
    // What subscriptions knew that have ended, to be taken apart.
    leavings: Vec<BTreeMap<u64, u64>>,
    // Room is still to be made for a publication.
    owes: bool,
    portions: Portions,
    // Work done since the call began that it belongs to.
    work: usize,
}

impl Engine {
    /// An empty engine. `run` names this run, must not be 0, and must be far from those that were
    /// used before, because epochs count up from it: a random number of 52 bits will do, and the
    /// time of day will not, because clocks are set back. `secret` makes the keys of the table of counts unguessable.
    pub fn new(limits: Limits, run: u64, secret: [u8; 32]) -> Self {
        let limits = limits.applied();
        // Tables of topics are made at once: one that grows under way would stall everyone. Memory
        // that is not used yet is only promised.
        let topics = limits.topics.min(PROMISED);
        // Room is made here, not there. It would give its table back if it were told so later.
        let by_use = match NonZeroUsize::new(limits.topics + 1) {
            Some(most) if limits.topics <= PROMISED => {
                LruCache::with_hasher(most, RandomState::default())
            }
            _ => LruCache::unbounded_with_hasher(RandomState::default()),
        };
        Self {
            limits,
            run,
            secret,
            position: 0,
            uploads: 0,
            topics: Vec::new(),
            free: Vec::new(),
            by_use,
            by_name: BTreeMap::new(),
            by_id: HashMap::with_capacity_and_hasher(topics, RandomState::default()),
            recent: Recent::default(),
            forgotten: Forgotten::default(),
            dying: VecDeque::new(),
            next_topic: 1,
            shares: Shares::default(),
            evicted_counts: EvictedCounts::new(limits.counts()),
            bytes: 0,
            budget: Budget::new(limits.held()),
            filters: FilterIndex::default(),
            subscriptions: Subscriptions::default(),
            stirs: VecDeque::new(),
            next_session: 1,
            leavings: Vec::new(),
            owes: false,
            portions: PORTIONS,
            work: 0,
        }
    }

    /// The limits as they are applied.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Names this run.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// How many messages were accepted in this run, or began to arrive.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Number of topics.
    pub fn topics(&self) -> usize {
        self.by_name.len()
    }

    /// Makes the origins of publications under keys: text that a publisher chooses for one
    /// publication, so that a repetition is recognised. A topic remembers as many keys as
    /// [producers](Limits::producers), apart from these, each with its receipt.
    pub fn keys(&self) -> IdempotencyKeys {
        IdempotencyKeys::new(self.secret)
    }

    /// Begins to measure the work that is done.
    pub fn begin_work(&mut self) {
        self.work = 0;
    }

    /// Whether so much work was done since it [began](Self::begin_work) that others are to have
    /// their turn.
    pub fn is_tired(&self) -> bool {
        self.work >= WORK
    }

    /// Number of subscriptions.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// Bytes charged to the cache: topics and messages, what peers make the daemon hold beside
    /// them, and the part set aside for counts.
    pub fn bytes(&self) -> usize {
        self.bytes + self.budget.held() + self.limits.cache / 4
    }

    /// For what peers make the daemon hold beside the topics, a quarter of the cache: the topics
    /// give way to it with the next publication.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    fn topic(&self, slot: Slot) -> Option<&Topic> {
        self.topics.get(slot)?.as_deref()
    }

    fn slot(&self, name: &str) -> Option<Slot> {
        self.by_use.peek(name).copied()
    }

    // A new topic; the one idle longest gives way when there are too many.
    fn create(&mut self, name: &str) -> Slot {
        self.make_topic_room();
        let name: Arc<str> = name.into();
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(name.as_bytes());
        let key = crate::wire::Digest(*hasher.finalize().as_bytes()).hint();
        let id = self.next_topic;
        self.next_topic += 1;
        // Unique: ids never repeat in a run, and of two random runs one topic has the same epoch
        // with a chance of 2^-52. Only epochs of one topic are ever compared.
        let epoch = self.run.wrapping_add(id - 1).max(1);
        let topic = Box::new(Topic::new(name.clone(), id, epoch, key, self.position + 1));
        self.bytes += topic.cost();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.topics.push(None);
            self.topics.len() - 1
        });
        self.topics[slot] = Some(topic);
        self.by_use.put(name.clone(), slot);
        self.by_name.insert(name, slot);
        self.by_id.insert(id, slot);
        let topics = &mut self.topics;
        self.shares.insert(slot, |slot, place| set_place(topics, slot, place));
        slot
    }

    // Changes a topic and keeps the accounts.
    fn change<T>(&mut self, slot: Slot, change: impl FnOnce(&mut Topic) -> T) -> Option<T> {
        let topic = self.topics.get_mut(slot)?.as_deref_mut()?;
        let before = topic.cost();
        let result = change(topic);
        self.settle(slot, before);
        Some(result)
    }

    // The accounts of a topic that has changed: what it costs, and what it could give up now.
    fn settle(&mut self, slot: Slot, before: usize) {
        let Some(topic) = self.topic(slot) else {
            return;
        };
        let (place, (spare, big)) = (topic.place, topic.gives());
        self.bytes = self.bytes + topic.cost() - before;
        self.shares.set_big(slot, big);
        let topics = &mut self.topics;
        self.shares.update(place, spare, |slot, place| set_place(topics, slot, place));
    }
}

fn set_place(topics: &mut [Option<Box<Topic>>], slot: Slot, place: usize) {
    if let Some(topic) = &mut topics[slot] {
        topic.place = place;
    }
}
