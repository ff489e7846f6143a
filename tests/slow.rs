//! A subscriber that does not read affects neither the other subscribers nor the daemon.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Served, TRANSPORTS, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weir::client::Subscription;
use weir::{Client, Event, SubscribeOptions, Transport, Trust};

const MESSAGES: u64 = 200_000;
const SIZE: usize = 1024;
const BUDGET_MIB: u64 = 64;

async fn connect(served: &Served, transport: Transport) -> Client {
    let trust = Trust::Pinned(served.hash.parse().unwrap());
    let builder = Client::builder(&*served.server).trust(trust).transport(transport);
    within(builder.reconnect(weir::client::Reconnect::never()).connect()).await.unwrap()
}

fn payload(n: u64) -> Vec<u8> {
    let mut payload = vec![0; SIZE];
    payload[..8].copy_from_slice(&n.to_le_bytes());
    payload
}

/// Reads to the last message. Returns the number of messages and of those in gaps.
async fn read(mut subscription: Subscription, progress: Arc<AtomicU64>) -> (u64, u64) {
    let (mut next, mut missed) = (1, 0);
    while next <= MESSAGES {
        match within(subscription.next()).await.unwrap().unwrap() {
            Event::Message(message) => {
                assert_eq!(message.sequence, next);
                assert!(message.payload == payload(next));
                next += 1;
            }
            Event::Gap(gap) => {
                assert_eq!(gap.first, next);
                missed += gap.last - gap.first + 1;
                next = gap.last + 1;
            }
            other => panic!("{other:?}"),
        }
        progress.store(next, Relaxed);
    }
    (MESSAGES - missed, missed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_within_its_bound_and_the_others_lose_nothing() {
    let state = tempfile::tempdir().unwrap();
    let budget = format!("{BUDGET_MIB}MiB");
    let served = Served::start(state.path(), &[], &[("WEIR_CACHE__BYTES", &budget)]);
    let options = SubscribeOptions::default();
    // For each transport one subscriber that reads, and one that does not.
    let mut idle = Vec::new();
    let mut busy = Vec::new();
    for transport in TRANSPORTS {
        idle.push(connect(&served, transport).await.subscribe("flood", &options).await.unwrap());
        let reader = connect(&served, transport).await.subscribe("flood", &options).await.unwrap();
        let progress = Arc::new(AtomicU64::new(0));
        busy.push((progress.clone(), tokio::spawn(read(reader, progress))));
    }
    let publisher = connect(&served, Transport::Quic).await;
    let mut receipts = Vec::new();
    for n in 1..=MESSAGES {
        receipts.push(publisher.send("flood", payload(n)).await.unwrap());
        if receipts.len() == 1000 {
            for receipt in receipts.drain(..) {
                assert_eq!(within(receipt).await.unwrap().count, 1);
            }
            // At most a tenth of the cache ahead of the readers.
            while busy
                .iter()
                .any(|(progress, task)| !task.is_finished() && progress.load(Relaxed) + 5000 < n)
            {
                tokio::task::yield_now().await;
            }
        }
    }
    for (_, task) in busy {
        assert_eq!(within(task).await.unwrap(), (MESSAGES, 0), "who reads loses nothing");
    }
    // The last 16 MiB: the journal's queue and a batch, while the disk is slower than the publishers.
    let bound = BUDGET_MIB * 1024 * 5 / 4 + 32 * 1024 + 16 * 1024;
    let (peak, now) = (served.kib("VmHWM"), served.kib("VmRSS"));
    println!("RSS {now} KiB, at most {peak} KiB; the bound is {bound} KiB");
    assert!(peak < bound, "RSS was {peak} KiB, the bound is {bound} KiB");
    for subscription in idle {
        let (received, missed) = within(read(subscription, Arc::default())).await;
        println!("the subscriber that did not read: {received} messages, {missed} in gaps");
        assert!(missed > MESSAGES / 2 && received > 10_000);
    }
}
