//! A hundred thousand publications in datagrams, over loss on both legs: each is accepted, counted
//! and delivered once.

use crate::common::{daemon, within};
use crate::lossy::{Lossy, ROUGH, Rules};
use crate::tally::{Tally, options, through};
use std::collections::HashMap;
use std::time::Instant;
use weir::wire::Delivery;
use weir::{Event, Transport};

const MESSAGES: u64 = 100_000;
// Each payload is published a thousand times.
const PAYLOADS: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_is_counted_twice() {
    let daemon = daemon().await;
    let rules = Rules { loss: 0.05, ..ROUGH };
    let (there, back) =
        (Lossy::start(daemon.local_addr(), rules), Lossy::start(daemon.local_addr(), rules));
    let publisher = through(&there, &daemon, Transport::Quic).await;
    let subscriber = through(&back, &daemon, Transport::Quic).await;
    let mut subscription =
        subscriber.subscribe("flood", &options(Delivery::Realtime)).await.unwrap();
    let begun = Instant::now();
    let publishing = tokio::spawn(async move {
        let mut waiting = Vec::new();
        for n in 0..MESSAGES {
            let payload = format!("payload {}", n % PAYLOADS);
            waiting.push(publisher.send_realtime("flood", payload).await.unwrap());
            if waiting.len() == 1000 {
                for accepted in waiting.drain(..500) {
                    accepted.await.unwrap();
                }
            }
        }
        for accepted in waiting {
            accepted.await.unwrap();
        }
        println!("published in {:?}", begun.elapsed());
        publisher
    });
    let (mut tally, mut counts) = (Tally::default(), HashMap::<_, Vec<u64>>::new());
    while tally.total() < MESSAGES {
        let event: Event = within(subscription.next()).await.unwrap().unwrap();
        if let Some(message) = tally.take(event) {
            counts.entry(message.payload).or_default().push(message.count);
        }
    }
    println!("delivered in {:?}: {:?}", begun.elapsed(), subscription.stats());
    println!("packets passed and lost: {:?}, {:?}", there.counts(), back.counts());
    tally.assert_all("flood", MESSAGES);
    assert_eq!((tally.missed, counts.len() as u64), (0, PAYLOADS));
    let each = MESSAGES / PAYLOADS;
    for counts in counts.values_mut() {
        counts.sort_unstable();
        assert!(counts.iter().copied().eq(1..=each), "a payload was not counted {each} times");
    }
    let publisher = within(publishing).await.unwrap();
    let top = within(publisher.top("flood", 100)).await.unwrap();
    assert_eq!(top.len() as u64, PAYLOADS);
    assert!(top.iter().all(|ranked| ranked.count == each && ranked.since.is_none()), "{top:?}");
    let receipt = within(publisher.publish("flood", "the last")).await.unwrap();
    assert_eq!((receipt.sequence, receipt.count), (MESSAGES + 1, 1));
}
