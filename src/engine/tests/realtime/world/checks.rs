//! The checks at the end of a run.

use super::*;

impl World {
    /// Everything was accepted once and counted once, and everybody has had everything once, or
    /// was told of it once.
    pub(in crate::engine::tests::realtime) fn check(&self) {
        self.daemon.engine.audit();
        assert!(self.publisher.is_done(), "publications without an answer");
        let rejected = &self.publisher.rejected;
        let accepted = self.publisher.published() - rejected.len() as u64;
        assert_eq!(self.daemon.engine.position(), accepted);
        self.check_counts();
        let unlimited = self.scenario.sizes.iter().all(|size| *size < 2000);
        for reader in &self.readers {
            let told = self.check_reader(reader);
            if unlimited && reader.wish.deadline == 0 {
                assert_eq!(told, 0, "nothing left the cache, and yet it was told as a gap");
            }
            let stats = reader.subscriber.stats();
            let asked = stats.asked;
            let lost = reader.down.lost + reader.up.lost;
            // Repairs are requested for lost messages, and for those on a stream that are late or
            // that others of a burst overtake.
            let in_datagrams = self.scenario.sizes.iter().all(|size| *size < 1000)
                && reader.wish.deadline == 0
                && reader.wish.breaks.is_empty()
                && !reader.wish.all;
            if in_datagrams && self.scenario.down.jitter == 0 {
                assert!(asked <= 3 * lost, "{asked} repairs for {lost} losses: {stats:?}");
            }
            assert!(asked <= 3 * (lost + reader.down.sent) + 10, "{asked} for {lost}: {stats:?}");
        }
    }

    fn check_counts(&self) {
        let mut numbers = [0; TOPICS.len()];
        let mut times: HashMap<(usize, Digest), u64> = HashMap::new();
        let mut digests = BTreeMap::new();
        for (_, topic, n) in &self.scenario.publications {
            numbers[*topic] += 1;
            if !self.publisher.rejected.contains(&(*topic as u32, numbers[*topic])) {
                let digest = digests.entry(*n);
                let digest =
                    *digest.or_insert_with(|| Digest::of(&payload(*n, &self.scenario.sizes)));
                *times.entry((*topic, digest)).or_default() += 1;
            }
        }
        for (topic, name) in TOPICS.into_iter().enumerate().filter(|(topic, _)| numbers[*topic] > 0)
        {
            for ranking in self.daemon.engine.top(name, 100).unwrap_or_default() {
                assert_eq!(ranking.count, times[&(topic, ranking.digest)], "counted wrong");
                assert_eq!(ranking.since, 0);
            }
        }
    }

    // Says how many it was told of.
    pub(super) fn check_reader(&self, reader: &Reader) -> usize {
        let (subscriber, since) = (&reader.subscriber, reader.since.unwrap());
        let filter: Filter = reader.wish.filter.parse().unwrap();
        let mut expected = 0;
        for topic in self.daemon.engine.topics.iter().flatten() {
            let Some(start) = subscriber.starts.get(&**topic.name()) else {
                let newest =
                    topic.entry(topic.next_sequence() - 1).map_or(0, |entry| entry.position);
                assert!(
                    !filter.matches(topic.name()) || newest <= since.position,
                    "never told of it"
                );
                continue;
            };
            for sequence in *start..topic.next_sequence() {
                let fate = subscriber.log.get(&(topic.name().to_string(), sequence));
                assert!(fate.is_some(), "{} {sequence} is missing", topic.name());
                expected += 1;
            }
        }
        assert_eq!(subscriber.log.len(), expected, "more than there were");
        let had = subscriber.log.values().filter_map(|fate| match fate {
            Fate::Had(stamp, _) => Some(*stamp),
            Fate::Told => None,
        });
        let stamps: BTreeSet<u64> = had.clone().collect();
        assert_eq!(stamps.len(), had.clone().count(), "a publication under two sequences");
        expected - had.count()
    }
}
