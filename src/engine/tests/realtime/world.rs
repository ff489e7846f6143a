//! A publisher, a daemon and subscribers, and what happens to them, event by event.

mod checks;

use super::daemon::Daemon;
use super::ends::{Fate, LONG, Publisher, Subscriber, TOPICS, soonest};
use super::link::{MS, Out, Quality, Way};
use crate::engine::tests::seeds::Random;
use crate::wire::realtime::{Repeats, Stats};
use crate::wire::{Digest, Filter, Position, Resume, Start};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The request of a subscriber, and the times at which it connects and resets.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) filter: &'static str,
    pub(super) all: bool,
    pub(super) deadline: u64,
    pub(super) joins: u64,
    pub(super) breaks: Vec<u64>,
    pub(super) pauses: Vec<(u64, u64)>,
}

#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) up: Quality,
    pub(super) down: Quality,
    /// When the path loses nothing any more.
    pub(super) calm: u64,
    /// When, to which topic, which payload.
    pub(super) publications: Vec<(u64, usize, u32)>,
    pub(super) sizes: Vec<usize>,
    pub(super) wishes: Vec<Wish>,
    pub(super) budget: u64,
    pub(super) carry: bool,
    pub(super) refuses: u64,
    /// When the path begins and ceases to be congested.
    pub(super) congested: Vec<u64>,
}

/// Events of all runs together. Without any of these, the runs would prove nothing.
#[derive(Debug, Default)]
pub(super) struct Tally {
    delivered: usize,
    told_though_patient: usize,
    stats: Stats,
    asked_reliably: u64,
    again: u64,
    rejected: usize,
    resumed_above_a_hole: u64,
    not_repeated: u64,
}

impl Tally {
    pub(super) fn check(&self) {
        assert!(self.delivered > 1000, "{self:?}");
        let Stats { duplicates, asked, repaired, late } = self.stats;
        assert!([duplicates, asked, repaired, late].iter().all(|count| *count > 10), "{self:?}");
        assert!(self.asked_reliably > 0 && self.again > 0 && self.rejected > 0, "{self:?}");
        assert!(self.not_repeated > 0, "{self:?}");
    }
}

#[derive(Debug)]
enum Event {
    Publish(usize, u32),
    ToDaemon(bool, Bytes),
    ToPublisher(Bytes),
    // The subscriber, and its session.
    ToSubscriber(usize, u32, Bytes),
    Repair(usize, u32, bool, Bytes),
    Join(usize),
    Break(usize),
    Pause(usize, u64),
    Congested(bool),
    Calm,
}

struct Reader {
    wish: Wish,
    subscriber: Subscriber,
    session: u32,
    // The position at which it began, once it has.
    since: Option<Position>,
    down: Way,
    up: Way,
}

pub(super) struct World {
    random: Random,
    scenario: Scenario,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    pub(super) publisher: Publisher,
    up: Way,
    back: Way,
    pub(super) daemon: Daemon,
    readers: Vec<Reader>,
    published_at: Vec<u64>,
}

fn payload(n: u32, sizes: &[usize]) -> Bytes {
    let mut bytes = vec![n as u8; sizes[n as usize % sizes.len()].max(4)];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    bytes.into()
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let readers = scenario.wishes.iter().map(|wish| Reader {
            wish: wish.clone(),
            subscriber: Subscriber::new(true, wish.deadline),
            session: 0,
            since: None,
            down: Way::new(scenario.down),
            up: Way::new(scenario.down),
        });
        let readers = readers.collect();
        let mut daemon = Daemon::new();
        daemon.refuses = scenario.refuses;
        let mut world = Self {
            random: Random(seed),
            now: 0,
            queue: BTreeMap::new(),
            events: 0,
            publisher: Publisher::new(),
            up: Way::new(scenario.up),
            back: Way::new(scenario.up),
            daemon,
            readers,
            published_at: vec![0],
            scenario: scenario.clone(),
        };
        world.at(scenario.calm, Event::Calm);
        for (at, topic, n) in scenario.publications {
            world.at(at, Event::Publish(topic, n));
        }
        for (who, wish) in scenario.wishes.into_iter().enumerate() {
            world.at(wish.joins, Event::Join(who));
            for at in wish.breaks {
                world.at(wish.joins + at, Event::Break(who));
            }
            for (at, until) in wish.pauses {
                world.at(at, Event::Pause(who, until));
            }
        }
        for (index, at) in scenario.congested.into_iter().enumerate() {
            world.at(at, Event::Congested(index % 2 == 0));
        }
        world
    }

    fn at(&mut self, at: u64, event: Event) {
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }

    /// Until nothing happens any more.
    pub(super) fn run(&mut self) {
        let last = self.queue.last_key_value().map_or(0, |((at, _), _)| *at);
        loop {
            self.flush();
            let readers = self.readers.iter().map(|reader| reader.subscriber.receiver.due());
            let due = readers.chain([self.publisher.due(), self.daemon.due()]);
            let Some(at) = soonest(due.chain([self.queue.keys().next().map(|(at, _)| *at)])) else {
                break;
            };
            self.now = self.now.max(at);
            assert!(self.now < last + LONG, "it does not come to rest");
            if let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                let event = entry.remove();
                self.happen(event);
            }
            let (now, near, far) = (self.now, rtt(&self.up), rtt(&self.readers[0].down));
            if self.publisher.due().is_some_and(|due| due <= now) {
                self.publisher.poll(now, near);
            }
            self.daemon.poll(now, far);
            for reader in &mut self.readers {
                if reader.subscriber.receiver.due().is_some_and(|due| due <= now) {
                    reader.subscriber.poll(now, far);
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Publish(topic, n) => {
                let payload = payload(n, &self.scenario.sizes);
                self.published_at.push(now);
                let stamp = self.published_at.len() as u64 - 1;
                self.publisher.publish(now, rtt(&self.up), topic, stamp, &payload);
            }
            Event::ToDaemon(datagram, bytes) => {
                self.daemon.take(&mut self.random, now, datagram, &bytes);
            }
            Event::ToPublisher(bytes) => self.publisher.receive(&bytes),
            Event::ToSubscriber(who, session, bytes) => {
                let reader = &mut self.readers[who];
                if reader.session == session {
                    reader.subscriber.receive(now, rtt(&reader.down), &bytes);
                }
            }
            Event::Repair(who, session, datagram, bytes) => {
                if self.readers[who].session == session {
                    self.daemon.repair(who, datagram, &bytes);
                }
            }
            Event::Join(who) => self.join(who),
            Event::Break(who) => {
                self.daemon.unsubscribe(who);
                let reader = &mut self.readers[who];
                reader.session += 1;
                reader.subscriber.break_off();
                let wait = self.random.below(300) as u64 * MS;
                self.at(now + wait, Event::Join(who));
            }
            Event::Pause(who, until) => {
                if let Some(feed) = self.daemon.feeds.get_mut(&who) {
                    feed.paused_until = until;
                }
            }
            Event::Congested(congested) => {
                self.daemon.feeds.values_mut().for_each(|feed| feed.congested = congested);
            }
            Event::Calm => {
                let readers = self.readers.iter_mut().flat_map(|one| [&mut one.down, &mut one.up]);
                for way in readers.chain([&mut self.up, &mut self.back]) {
                    way.quality.loss = 0;
                }
            }
        }
    }

    fn join(&mut self, who: usize) {
        let reader = &mut self.readers[who];
        if self.daemon.feeds.contains_key(&who) {
            return;
        }
        let topics = reader.subscriber.resume.iter();
        let topics =
            topics.map(|(topic, (epoch, next, _))| Resume { topic, epoch: *epoch, next: *next });
        let start = match reader.since {
            Some(since) => Start::Resume { since, topics: topics.collect() },
            None if reader.wish.all => Start::All,
            None => Start::New,
        };
        let (run, position) = (self.daemon.engine.run(), self.daemon.engine.position());
        let all = Position { run: 0, position: 0 };
        let here = if reader.wish.all { all } else { Position { run, position } };
        reader.since.get_or_insert(here);
        let repeats = Repeats::new(self.scenario.budget, self.scenario.carry);
        self.daemon.subscribe(who, reader.wish.filter, &start, repeats, reader.wish.deadline);
    }

    // Puts the packets of the ends on the link.
    fn flush(&mut self) {
        let mut arrivals = Vec::new();
        let (random, now) = (&mut self.random, self.now);
        let mut send = |way: &mut Way, out: Vec<Out>, event: &dyn Fn(bool, Bytes) -> Event| {
            for out in out {
                let times = way.carry(random, now, &out);
                let (datagram, bytes) = match out {
                    Out::Datagram(bytes) => (true, Bytes::from(bytes)),
                    Out::Stream(bytes) => (false, Bytes::from(bytes)),
                };
                arrivals.extend(times.into_iter().map(|at| (at, event(datagram, bytes.clone()))));
            }
        };
        let out = std::mem::take(&mut self.publisher.out);
        send(&mut self.up, out, &|datagram, bytes| Event::ToDaemon(datagram, bytes));
        let out = std::mem::take(&mut self.daemon.out);
        send(&mut self.back, out, &|_, bytes| Event::ToPublisher(bytes));
        for (who, reader) in self.readers.iter_mut().enumerate() {
            let session = reader.session;
            let out = std::mem::take(&mut reader.subscriber.out);
            send(&mut reader.up, out, &|datagram, bytes| {
                Event::Repair(who, session, datagram, bytes)
            });
            if let Some(feed) = self.daemon.feeds.get_mut(&who) {
                let out = std::mem::take(&mut feed.out);
                send(&mut reader.down, out, &|_, bytes| Event::ToSubscriber(who, session, bytes));
            }
        }
        arrivals.into_iter().for_each(|(at, event)| self.at(at, event));
    }

    pub(super) fn tally(&self, tally: &mut Tally) {
        for reader in &self.readers {
            let told = self.check_reader(reader);
            tally.delivered += reader.subscriber.log.len() - told;
            if reader.wish.deadline == 0 {
                tally.told_though_patient += told;
            }
            tally.asked_reliably += reader.subscriber.asked_reliably;
            tally.resumed_above_a_hole += reader.subscriber.resumed_above_a_hole;
            let Stats { duplicates, asked, repaired, late } = reader.subscriber.stats();
            tally.stats.duplicates += duplicates;
            tally.stats.asked += asked;
            tally.stats.repaired += repaired;
            tally.stats.late += late;
        }
        tally.again += self.publisher.again;
        tally.rejected += self.publisher.rejected.len();
        tally.not_repeated +=
            self.daemon.feeds.values().map(|feed| feed.repeats.skipped()).sum::<u64>();
    }

    pub(super) fn stats(&self, who: usize) -> Stats {
        self.readers[who].subscriber.stats()
    }

    /// From publication to delivery, in order; µs.
    pub(super) fn latencies(&self, who: usize) -> Vec<u64> {
        let log = self.readers[who].subscriber.log.values();
        let all = log.filter_map(|fate| match fate {
            Fate::Had(stamp, at) => Some(at - self.published_at[*stamp as usize]),
            Fate::Told => None,
        });
        let mut all: Vec<u64> = all.collect();
        all.sort_unstable();
        all
    }

    /// Repairs asked for, and bytes and datagrams sent to a subscriber.
    pub(super) fn cost(&self, who: usize) -> (u64, u64, u64) {
        let reader = &self.readers[who];
        (reader.subscriber.stats().asked, reader.down.bytes, reader.down.sent)
    }
}

fn rtt(way: &Way) -> u64 {
    2 * way.quality.one_way + way.quality.jitter
}
