//! What was published, and what each subscriber has of it. Everything that must hold is asserted
//! here, as it arrives or at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use weir::wire::Digest;

/// Topic, epoch and sequence.
type Place = (String, u64, u64);

/// Every payload that was ever shown to anybody.
#[derive(Debug, Default, Clone)]
pub struct Shown(Arc<Mutex<HashMap<Place, Digest>>>);

impl Shown {
    fn note(&self, topic: &str, epoch: u64, sequence: u64, digest: Digest) {
        let key = (topic.to_owned(), epoch, sequence);
        let before = self.0.lock().unwrap().insert(key, digest);
        assert!(
            before.is_none_or(|before| before == digest),
            "two payloads of {topic} under epoch {epoch} and sequence {sequence}"
        );
    }
}

/// A publication that the daemon has acknowledged.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub digest: Digest,
    /// Sequence and count, if there was a receipt that knew them.
    pub receipt: Option<(u64, u64)>,
    /// Whether others of its topic may overtake it.
    pub overtaken: bool,
}

/// What was acknowledged to one publisher, by the number of the publication.
#[derive(Debug, Default)]
pub struct Publications {
    pub topic: String,
    all: Mutex<BTreeMap<u64, Acknowledged>>,
}

impl Publications {
    pub fn new(topic: &str) -> Arc<Self> {
        Arc::new(Self { topic: topic.to_owned(), all: Mutex::default() })
    }

    pub fn acknowledge(&self, number: u64, acknowledged: Acknowledged) {
        let before = self.all.lock().unwrap().insert(number, acknowledged);
        assert!(before.is_none());
    }

    pub fn len(&self) -> usize {
        self.all.lock().unwrap().len()
    }

    /// The receipts that were given last: sequence and payload.
    pub fn newest(&self, most: usize) -> Vec<(u64, Digest)> {
        let all = self.all.lock().unwrap();
        let known = all.values().rev().filter_map(|one| Some((one.receipt?.0, one.digest)));
        known.take(most).collect()
    }

    /// Checks the receipts: each sequence once, in the order of publishing, counted exactly.
    /// Returns them by sequence, and the payloads without a sequence.
    pub fn check(&self) -> (BTreeMap<u64, Digest>, Vec<Digest>) {
        let all = self.all.lock().unwrap();
        let (mut sequences, mut others) = (BTreeMap::new(), Vec::new());
        let mut counts: HashMap<Digest, BTreeMap<u64, u64>> = HashMap::new();
        let mut last = 0;
        for (number, one) in &*all {
            let Some((sequence, count)) = one.receipt else {
                others.push(one.digest);
                continue;
            };
            let before = sequences.insert(sequence, one.digest);
            assert_eq!(before, None, "{}: two receipts for {sequence}", self.topic);
            if !one.overtaken {
                let order = sequence > last;
                assert!(order, "{}: publication {number} is {sequence}, after {last}", self.topic);
                last = sequence;
            }
            counts.entry(one.digest).or_default().insert(sequence, count);
        }
        for (digest, counts) in counts {
            let counted: Vec<_> = counts.values().copied().collect();
            let right = counted.iter().copied().eq(1..=counted.len() as u64);
            assert!(right, "{}: {digest} was counted {counted:?}", self.topic);
        }
        (sequences, others)
    }

    /// How often the payload was published that was published most.
    pub fn most(&self) -> u64 {
        let mut times: HashMap<Digest, u64> = HashMap::new();
        self.all
            .lock()
            .unwrap()
            .values()
            .for_each(|one| *times.entry(one.digest).or_default() += 1);
        times.into_values().max().unwrap_or_default()
    }
}

/// What one subscriber has of a topic.
#[derive(Debug, Default)]
struct Topic {
    // Epoch and payload by sequence. What was lost is taken out again. A stream of events with
    // wildcards does not tell the epoch.
    messages: BTreeMap<u64, (Option<u64>, Digest)>,
    next: u64,
    aborted: BTreeSet<u64>,
}

/// What one subscriber has.
#[derive(Debug)]
pub struct View {
    pub name: String,
    filter: String,
    ordered: bool,
    topics: HashMap<String, Topic>,
    // For streams of events with wildcards: how many messages may not have been kept, and how many more
    // are to be added with the next message.
    doubtful: u64,
    not_kept: u64,
    shown: Shown,
    /// Deliveries of what was not kept.
    pub lost: u64,
    // Messages that another one has replaced, and that are to be told as lost.
    untold: HashSet<(String, u64)>,
    /// Gaps that may not be.
    gaps: Vec<String>,
    /// How often the session or the stream has ended.
    pub ends: u64,
}

pub type SharedView = Arc<Mutex<View>>;

impl View {
    pub fn new(name: String, filter: &str, ordered: bool, shown: &Shown) -> SharedView {
        Arc::new(Mutex::new(Self {
            name,
            filter: filter.to_owned(),
            ordered,
            topics: HashMap::new(),
            doubtful: 0,
            not_kept: 0,
            shown: shown.clone(),
            lost: 0,
            untold: HashSet::new(),
            gaps: Vec::new(),
            ends: 0,
        }))
    }

    fn expects(&self, topic: &str) -> bool {
        let filter = weir::wire::Filter::new(&self.filter).unwrap();
        filter.matches(topic)
    }

    pub fn message(&mut self, topic: &str, epoch: Option<u64>, sequence: u64, digest: Digest) {
        let Self { name, ordered, topics, doubtful, not_kept, untold, shown, .. } = self;
        if let Some(epoch) = epoch {
            shown.note(topic, epoch, sequence, digest);
        }
        *doubtful += std::mem::take(not_kept);
        let received = topics.entry(topic.to_owned()).or_default();
        let replaces = *doubtful > 0 && received.messages.contains_key(&sequence);
        let order = !*ordered || sequence >= received.next || replaces;
        assert!(order, "{name}: {topic} {sequence} after {}", received.next);
        received.next = sequence + 1;
        let before = received.messages.insert(sequence, (epoch, digest));
        let Some((before, _)) = before else {
            return;
        };
        // A subscription in order was told before that its message was lost. In any order, the message
        // that took its sequence may come first.
        let key = (topic.to_owned(), sequence);
        assert!(
            replaces || (!*ordered && before != epoch),
            "{name}: {topic} {sequence} twice, under epochs {before:?} and {epoch:?}"
        );
        if replaces {
            *doubtful -= 1;
            self.lost += 1;
        } else {
            untold.insert(key);
        }
    }

    /// These sequences are those of an earlier epoch, and were never accepted.
    pub fn lost(&mut self, topic: &str, epoch: u64, first: u64, last: u64) {
        let received = self.topics.entry(topic.to_owned()).or_default();
        for sequence in first..=last {
            // A message of the new epoch may arrive first, on a stream of its own.
            if received.messages.get(&sequence).is_some_and(|(of, _)| *of != Some(epoch)) {
                received.messages.remove(&sequence);
                self.lost += 1;
            }
            self.lost += u64::from(self.untold.remove(&(topic.to_owned(), sequence)));
        }
        received.next = first;
    }

    /// So many of the messages, at most, were never accepted. Those of an earlier kill stay in doubt,
    /// because their publisher may be away.
    pub fn lost_at_most(&mut self, most: u64, has_id: bool) {
        if has_id {
            self.doubtful += most;
            self.not_kept = 0;
        } else {
            // A stream that ends before its next id is told once more.
            self.not_kept = most;
        }
    }

    /// The publisher's session, or the daemon, ended before this payload was complete. Under an earlier
    /// epoch it may have been shown, because a daemon that was killed had kept its beginning only.
    pub fn aborted(&mut self, topic: &str, epoch: u64, first: u64, last: u64) {
        let received = self.topics.entry(topic.to_owned()).or_default();
        received.aborted.extend(first..=last);
        for sequence in first..=last {
            if received.messages.get(&sequence).is_some_and(|(of, _)| *of != Some(epoch)) {
                received.messages.remove(&sequence);
                self.lost += 1;
            }
        }
    }

    pub fn gap(&mut self, gap: String) {
        self.gaps.push(gap);
    }

    /// Returns what is missing or wrong, if the subscriber has a topic's publications and nothing
    /// else: every sequence from 1 on is one of them, or was told as aborted.
    pub fn fault(
        &self,
        topic: &str,
        sequences: &BTreeMap<u64, Digest>,
        others: &[Digest],
    ) -> Option<String> {
        if !self.expects(topic) {
            return None;
        }
        if !self.gaps.is_empty() {
            return Some(format!("gaps: {:?}", self.gaps));
        }
        if !self.untold.is_empty() {
            return Some(format!("replaced, and not told as lost: {:?}", self.untold));
        }
        let Some(received) = self.topics.get(topic) else {
            return Some("nothing".into());
        };
        let wrong: Vec<_> = sequences
            .iter()
            .filter(|(sequence, digest)| {
                received.messages.get(sequence).is_none_or(|(_, has)| has != *digest)
            })
            .map(|(sequence, _)| *sequence)
            .collect();
        if !wrong.is_empty() {
            return Some(format!("{} of {}: {wrong:?}", wrong.len(), sequences.len()));
        }
        // Beside those, it has each payload whose publisher does not know the sequence, once.
        let rest =
            received.messages.iter().filter(|(sequence, _)| !sequences.contains_key(sequence));
        let rest: Vec<_> = rest.collect();
        let (mut shown, mut others): (Vec<_>, _) =
            (rest.iter().map(|(_, (_, digest))| *digest).collect(), others.to_vec());
        shown.sort_unstable();
        others.sort_unstable();
        // A message of which only a part was kept: no other one takes its sequence.
        let torn =
            rest.len().checked_sub(others.len()).filter(|torn| *torn as u64 <= self.doubtful);
        let are_all = others.iter().all(|one| shown.binary_search(one).is_ok());
        if shown != others && !(torn.is_some() && are_all) {
            // Those that were published by nobody.
            let more: Vec<_> = rest
                .iter()
                .filter(|(_, (_, digest))| others.binary_search(digest).is_err())
                .map(|(at, (epoch, _))| (at, epoch, received.aborted.contains(at)))
                .collect();
            let (has, of) = (shown.len(), others.len());
            return Some(format!("{has} without a receipt, not {of}; more: {more:?}"));
        }
        let last = received.messages.keys().next_back().copied().unwrap_or_default();
        let is_known = |sequence: &u64| {
            received.messages.contains_key(sequence) || received.aborted.contains(sequence)
        };
        let holes: Vec<_> = (1..=last).filter(|sequence| !is_known(sequence)).collect();
        (!holes.is_empty()).then(|| format!("neither received nor told: {holes:?}"))
    }
}
