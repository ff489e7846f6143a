//! Wakes, in every order that a scheduler may produce.

use super::*;
use crate::engine::{Limits, Payload, Publication};
use crate::wire::{Filter, Lag, Start};
use bytes::Bytes;
use shuttle::sync::Mutex as Turns;
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Wake;

impl Lock for Turns<Inner> {
    fn lock(&self) -> Option<impl DerefMut<Target = Inner>> {
        self.lock().ok()
    }

    fn has_failed(&self) -> bool {
        false
    }
}

type Shared = Arc<Broker<Turns<Inner>>>;

fn broker() -> Shared {
    let mut limits = Limits::default().with_cache(1 << 20);
    limits.topics = 8;
    let engine = Engine::new(limits, 1, [7; 32]);
    Arc::new(Broker::of(Turns::new(Inner::new(engine, None, None)), None, None))
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn subscribe(broker: &Shared, filter: &str) -> SubscriptionId {
    let filter: Filter = filter.parse().unwrap();
    broker.with(|engine| engine.subscribe(filter, &Start::New, Lag::Oldest))
}

fn publish(broker: &Shared, topic: &str) {
    let payload = Payload::from(Bytes::from_static(b"x"));
    let digest = payload.digest();
    let publication = Publication { topic, payload: &payload, digest, stamp: 0, origin: None };
    broker.with(|engine| engine.publish(1, &publication)).unwrap();
}

// Returns whether there was something to read.
fn poll(broker: &Shared, id: SubscriptionId, woken: &Arc<Woken>) -> bool {
    let waker = woken.clone().into();
    let context = &mut Context::from_waker(&waker);
    broker.poll_read(id, context, 1 << 16, &mut |_| ()).is_ready()
}

const TURNS: usize = 1000;

/// A subscription ends, and another gets its index before the waiting task is looked up. The index
/// alone does not identify a subscription.
#[test]
fn a_subscription_that_gets_anothers_index_is_woken() {
    let test = || {
        let broker = broker();
        let other = broker.clone();
        let ends = thread::spawn(move || {
            let woken = Arc::<Woken>::default();
            for _ in 0..2 {
                let id = subscribe(&other, "other/*");
                let _ = poll(&other, id, &woken);
                other.with(|engine| engine.unsubscribe(id));
            }
        });
        let woken = Arc::<Woken>::default();
        for n in 1..=2 {
            let id = subscribe(&broker, "a");
            assert!(!poll(&broker, id, &woken), "nothing was published");
            publish(&broker, "a");
            assert_eq!(woken.0.load(Relaxed), n, "silent for ever");
            broker.with(|engine| engine.unsubscribe(id));
        }
        ends.join().unwrap();
    };
    shuttle::check_random(test, TURNS);
    shuttle::check_pct(test, TURNS, 3);
}

/// A reader that found nothing is woken, at whatever point a message is published. This also holds
/// when the wakes are done in portions.
#[test]
fn nobody_sleeps_while_there_is_something_to_read() {
    let test = || {
        let broker = broker();
        let publisher = broker.clone();
        let publishes = thread::spawn(move || (0..3).for_each(|_| publish(&publisher, "a/b")));
        let readers: Vec<_> = ["a/*", "a/b", "**"]
            .into_iter()
            .map(|filter| {
                let broker = broker.clone();
                let id = subscribe(&broker, filter);
                thread::spawn(move || {
                    let woken = Arc::<Woken>::default();
                    let mut polls = 0;
                    // Like a task: reads while there is something, and after each wake.
                    for _ in 0..3 {
                        polls = woken.0.load(Relaxed);
                        while poll(&broker, id, &woken) {}
                    }
                    (id, woken, polls)
                })
            })
            .collect();
        let readers: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        publishes.join().unwrap();
        for (id, woken, polls) in readers {
            let asleep = woken.0.load(Relaxed) == polls;
            let behind = broker.with(|engine| engine.read(id, 1, &mut |_| ()).unwrap());
            assert!(!(asleep && behind), "asleep, and there is something to read");
        }
    };
    shuttle::check_random(test, TURNS);
    shuttle::check_pct(test, TURNS, 3);
}

/// The waker of a subscription is dropped with it.
#[test]
fn a_reader_goes_with_its_subscription() {
    shuttle::check_random(
        || {
            let broker = broker();
            let woken = Arc::<Woken>::default();
            let id = subscribe(&broker, "a");
            assert!(!poll(&broker, id, &woken) && Arc::strong_count(&woken) == 2);
            let other = broker.clone();
            let ends = thread::spawn(move || other.with(|engine| engine.unsubscribe(id)));
            publish(&broker, "a");
            ends.join().unwrap();
            assert_eq!(Arc::strong_count(&woken), 1, "it is kept");
        },
        TURNS,
    );
}

/// Makes more topics than are found without a sweep.
fn many_topics(broker: &Shared, topics: usize) {
    (0..topics).for_each(|n| publish(broker, &format!("t/{n}/y")));
}

/// Adds a subscription that finds nothing, and has to look at every topic.
fn sweep(broker: &Shared) -> SubscriptionId {
    let filter: Filter = "t/*/x".parse().unwrap();
    broker.with(|engine| engine.subscribe(filter, &Start::All, Lag::Oldest))
}

fn broker_of_many() -> Shared {
    let mut limits = Limits::default().with_cache(64 << 20);
    limits.topics = 6000;
    Arc::new(Broker::of(
        Turns::new(Inner::new(Engine::new(limits, 1, [7; 32]), None, None)),
        None,
        None,
    ))
}

// Once, 512 sweeps took all turns, of 0.35 ms each, and well-behaved readers waited a fifth of a
// second for one.
#[test]
fn sweeps_have_their_turns_a_few_at_a_time_and_in_order() {
    let test = || {
        let broker = broker_of_many();
        many_topics(&broker, 5000);
        let all: Vec<_> = (0..10).map(|_| (sweep(&broker), Arc::<Woken>::default())).collect();
        let poll_all_but = |but: usize| {
            for (id, woken) in all.iter().take(but).chain(all.iter().skip(but + 1)) {
                assert!(!poll(&broker, *id, woken));
            }
        };
        poll_all_but(all.len());
        // A subscription that ends loses its place, and one that polls again keeps it.
        broker.with(|engine| engine.unsubscribe(all[1].0));
        poll_all_but(1);
        let turns = || -> Vec<_> { all.iter().map(|(_, woken)| woken.0.load(Relaxed)).collect() };
        assert_eq!(turns(), [0; 10], "no turn was given");
        let mut had = vec![0; 10];
        for n in [0, 2, 3, 4, 5, 6, 7, 8, 9] {
            assert_eq!(broker.give_turns(), n < 9, "who is left?");
            had[n] += 1;
            assert_eq!(turns(), had);
        }
        // One turn is short, and then the others follow.
        let (id, woken) = &all[0];
        assert!(!poll(&broker, *id, woken));
        assert_eq!(broker.inner.lock().unwrap().line.len(), 1);
        assert!(!poll(&broker, *id, woken), "its next turn has not come");
        assert_eq!(broker.inner.lock().unwrap().line.len(), 1);
    };
    shuttle::check_random(test, 1);
}

#[test]
fn the_line_keeps_no_more_of_the_ended_than_there_are_subscriptions() {
    let test = || {
        let broker = broker_of_many();
        many_topics(&broker, 1000);
        let woken = Arc::<Woken>::default();
        for _ in 0..1000 {
            let id = sweep(&broker);
            assert!(!poll(&broker, id, &woken));
            broker.with(|engine| engine.unsubscribe(id));
        }
        assert!(broker.inner.lock().unwrap().line.len() <= 64);
        assert_eq!(Arc::strong_count(&woken), 1, "it is kept");
    };
    shuttle::check_random(test, 1);
}

#[test]
fn whoever_sweeps_comes_to_its_end() {
    let test = || {
        let broker = broker_of_many();
        many_topics(&broker, 1000);
        let sweepers: Vec<_> = (0..3)
            .map(|_| {
                let broker = broker.clone();
                let id = sweep(&broker);
                thread::spawn(move || {
                    let woken = Arc::<Woken>::default();
                    let mut polls = 0;
                    while broker.with(|engine| engine.is_sweeping(id)) {
                        // Like a task: at first, and then only after a wake.
                        if polls == 0 || woken.0.load(Relaxed) >= polls {
                            polls += 1;
                            let _ = poll(&broker, id, &woken);
                        }
                        thread::yield_now();
                    }
                })
            })
            .collect();
        let turner = broker.clone();
        let turns = thread::spawn(move || {
            for _ in 0..200 {
                turner.give_turns();
                thread::yield_now();
            }
        });
        sweepers.into_iter().for_each(|sweeper| sweeper.join().unwrap());
        turns.join().unwrap();
    };
    shuttle::check_random(test, 20);
}

#[test]
fn who_reads_on_when_nobody_gives_turns_any_more_has_what_was_accepted() {
    let test = || {
        let broker = broker();
        let ids: Vec<_> = (0..100).map(|_| subscribe(&broker, "a")).collect();
        let woken = Arc::<Woken>::default();
        for id in &ids {
            assert!(!poll(&broker, *id, &woken));
        }
        publish(&broker, "a");
        broker.close();
        let mut without = 0;
        for id in &ids {
            let mut any = false;
            let waker = woken.clone().into();
            let context = &mut Context::from_waker(&waker);
            let _ = broker.poll_read(*id, context, 1 << 16, &mut |_| any = true);
            without += usize::from(!any);
        }
        assert_eq!(without, 0, "of 100, without the message that was accepted before");
    };
    shuttle::check_random(test, 1);
}
