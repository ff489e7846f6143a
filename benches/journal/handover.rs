//! From TERM to everybody served by the next daemon: the first one drains, the second one has its
//! address and its state, and clients come back by themselves.

use super::{directory, median, rounds};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use weir::daemon::{JournalOptions, JournalSync};
use weir::{Client, Daemon, Event, SubscribeOptions, Trust};

/// Subscribers, each with a session of its own.
const SUBSCRIBERS: usize = 100;

/// Publications a second.
const RATE: u64 = 200;

async fn daemon(state: &Path, address: SocketAddr) -> Daemon {
    let options = JournalOptions::default().with_sync(JournalSync::EachSecond);
    Daemon::builder().listen(address).state(state).journal(options).spawn().await.unwrap()
}

// Returns the time to everybody being served again, the longest silence at a subscriber, and how many
// of the messages were missed or repeated.
async fn turn() -> (Duration, Duration, u64) {
    let state = directory();
    let first = daemon(state.path(), "127.0.0.1:0".parse().unwrap()).await;
    let (address, hash) = (first.local_addr(), first.certificate_hash());
    let server = format!("localhost:{}", address.port());
    let connect = || Client::builder(&server).trust(Trust::Pinned(hash.into())).connect();
    let mut readers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let client = connect().await.unwrap();
        let mut events = client.subscribe("bench/a", &SubscribeOptions::default()).await.unwrap();
        readers.push(tokio::spawn(async move {
            let (mut times, mut wrong, mut next) = (Vec::new(), 0, None);
            while let Some(Ok(event)) = events.next().await {
                match event {
                    Event::Message(message) => {
                        wrong += u64::from(next.is_some_and(|next| next != message.sequence));
                        next = Some(message.sequence + 1);
                        times.push(Instant::now());
                        if &message.payload[..] == b"end" {
                            break;
                        }
                    }
                    Event::Gap(_) => wrong += 1,
                    _ => {}
                }
            }
            drop(client);
            (times, wrong)
        }));
    }
    let publisher = connect().await.unwrap();
    let publishing = tokio::spawn(async move {
        let start = Instant::now();
        for n in 0..10 * RATE {
            drop(publisher.send("bench/a", "x").await.unwrap());
            tokio::time::sleep_until((start + Duration::from_millis(n * 1000 / RATE)).into()).await;
        }
        publisher.publish("bench/a", "end").await.unwrap();
    });
    // A client whose session was shorter than 5 s pauses before it comes back.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let term = Instant::now();
    first.drain(Duration::from_secs(10)).await;
    first.shutdown().await;
    let second = daemon(state.path(), address).await;
    let started = Instant::now();
    publishing.await.unwrap();
    let (mut served, mut silence, mut wrong) = (Duration::ZERO, Duration::ZERO, 0);
    for reader in readers {
        let (times, errors) = reader.await.unwrap();
        wrong += errors;
        let first = times.iter().find(|time| **time > started).unwrap();
        served = served.max(*first - term);
        silence = times.windows(2).map(|pair| pair[1] - pair[0]).fold(silence, Duration::max);
    }
    second.shutdown().await;
    (served, silence, wrong)
}

pub(super) async fn run() {
    let (mut served, mut silence, mut wrong) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds() {
        let (one, two, three) = turn().await;
        served.push(one.as_secs_f64());
        silence.push(two.as_secs_f64());
        wrong += three;
    }
    let worst = served.iter().copied().fold(0.0, f64::max);
    println!("\n{SUBSCRIBERS} sessions and a publisher at {RATE} Hz, a daemon that is replaced:");
    println!(
        "from TERM to everybody served by the next: {:.2} s (longest {worst:.2} s)",
        median(served)
    );
    println!("longest silence at a subscriber:           {:.2} s", median(silence));
    println!("messages missed or repeated:               {wrong}");
}
