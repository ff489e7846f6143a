//! How fast a session is sent what was published before it subscribed, and answers.

use crate::common::{client, message, within};
use crate::{count, daemon};
use std::time::{Duration, Instant};
use weir::client::Subscription;
use weir::daemon::Limit;
use weir::wire::{Delivery, Which};
use weir::{Daemon, Start, SubscribeOptions, Transport};

const MIB: usize = 1 << 20;

/// A daemon that sends a session 2 MiB of the past a second, and has 6 MiB of it.
async fn full(size: usize) -> Daemon {
    let daemon = daemon(|limits| limits.replay = 2 * MIB as u64).await;
    for n in 0..6 * MIB / size {
        let mut payload = vec![0; size];
        payload[..8].copy_from_slice(&(n as u64).to_le_bytes());
        daemon.publish("past", payload).unwrap();
    }
    daemon
}

/// 6 MiB take two seconds more than the burst. A batch of each stream may be ahead.
const SLOW: Duration = Duration::from_millis(1500);

fn options(delivery: Delivery, start: Start) -> SubscribeOptions {
    SubscribeOptions::from(start).with_delivery(delivery)
}

async fn read(subscription: &mut Subscription, messages: usize) -> Duration {
    let begun = Instant::now();
    for _ in 0..messages {
        message(subscription).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_slowed_in_every_mode_and_live_messages_of_the_session_are_not() {
    let transports = [Transport::Quic, Transport::WebTransport];
    let modes = [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];
    // Small payloads, those that fit no datagram, and those in chunks.
    for size in [1000, 16 << 10, MIB] {
        let daemon = full(size).await;
        let mut tasks = tokio::task::JoinSet::new();
        for (transport, delivery) in
            transports.into_iter().flat_map(|t| modes.map(|mode| (t, mode)))
        {
            let client = client(&daemon, transport).await;
            let live = options(delivery, Start::New);
            let mut live = within(client.subscribe("live", &live)).await.unwrap();
            let past = options(delivery, Start::All);
            let mut past = within(client.subscribe("past", &past)).await.unwrap();
            tasks.spawn(async move {
                let reading = tokio::spawn(async move { read(&mut past, 6 * MIB / size).await });
                let mut worst = Duration::ZERO;
                let mut received = 0;
                while !reading.is_finished() {
                    let begun = Instant::now();
                    let payload = vec![0; size.min(100_000)];
                    let published = client.publish("live", payload).await.unwrap();
                    // Others publish to it too.
                    while message(&mut live).await.sequence != published.sequence {}
                    worst = worst.max(begun.elapsed());
                    received += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let took = reading.await.unwrap();
                println!("{transport} {delivery:?} {size}: {took:?}, live {received} ≤ {worst:?}");
                assert!(took > SLOW, "{transport} {delivery:?} {size}: {took:?}");
                // The replay waits for more than a second in all.
                assert!(received >= 5, "{transport} {delivery:?} {size}: {received} ≤ {worst:?}");
            });
        }
        while let Some(done) = within(tasks.join_next()).await {
            done.unwrap();
        }
        assert!(count(&daemon, Limit::Replay) > 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_that_begin_in_the_past_again_and_again_are_slowed() {
    let daemon = full(1000).await;
    let client = client(&daemon, Transport::WebSocket).await;
    let begun = Instant::now();
    let mut received = 0;
    // Each reads a little, and leaves.
    while begun.elapsed() < Duration::from_secs(3) {
        let options = options(Delivery::Ordered, Start::All);
        let mut subscription = within(client.subscribe("past", &options)).await.unwrap();
        received += message(&mut subscription).await.payload.len();
    }
    // Each costs a batch of 64 KiB, of which its client reads one message.
    let most = 1000 * (8 * MIB / (64 << 10) + 50);
    assert!(received < most, "{received} of {most}");
    assert!(count(&daemon, Limit::Replay) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gets_are_slowed_whatever_their_size() {
    for (size, gets) in [(MIB, 6), (16 << 10, 384)] {
        let daemon = full(size).await;
        let client = client(&daemon, Transport::Quic).await;
        let begun = Instant::now();
        let answers = (0..gets).map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                assert_eq!(client.get("past", Which::Latest).await.unwrap().payload.len(), size);
            })
        });
        for answer in answers.collect::<Vec<_>>() {
            within(answer).await.unwrap();
        }
        assert!(begun.elapsed() > SLOW, "{size}: {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rankings_are_slowed() {
    let daemon = daemon(|limits| limits.replay = MIB as u64).await;
    for n in 0..100_u8 {
        daemon.publish("votes", vec![n; 1024]).unwrap();
    }
    let client = client(&daemon, Transport::Quic).await;
    let begun = Instant::now();
    // A hundred payloads of a KiB each, thirty times: three seconds' worth.
    for _ in 0..30 {
        assert_eq!(within(client.top("votes", 100)).await.unwrap().len(), 100);
    }
    assert!(begun.elapsed() > SLOW, "{:?}", begun.elapsed());
}
