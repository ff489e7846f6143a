//! Floods over sessions and HTTP, as fast as the daemon takes them.

use crate::arena::{Field, MESSAGES, REPLAY};
use crate::h2::{DATA, H2, HEADERS, RST_STREAM};
use crate::peers::{Foe, PATIENCE, h2};
use crate::raw::encoded;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use weir::wire::{ClientFrame, Delivery, Lag, Start, Which};

const MIB: f64 = 1_048_576.0;

fn publish(alias: u32, number: u64, payload: &[u8]) -> ClientFrame<'_> {
    ClientFrame::Publish { alias, number, stamp: 0, payload }
}

fn subscribe(request: u32, filter: &str, delivery: Delivery) -> ClientFrame<'_> {
    let (start, lag, deadline) = (Start::All, Lag::Oldest, 0);
    ClientFrame::Subscribe { request, filter, start, delivery, lag, deadline }
}

/// Publishes a hundred payloads of a KiB to a topic, which other floods may have evicted.
async fn fill(foe: &mut Foe, topic: &str) {
    let payloads: Vec<_> = (0..100).map(|n| vec![n; 1000]).collect();
    let mut frames = vec![ClientFrame::Topic { alias: 99, name: topic }];
    frames.extend((1..).zip(&payloads).map(|(number, payload)| publish(99, number, payload)));
    assert!(foe.send(&frames).await);
    let filled = async {
        while foe.seen.receipts.load(Relaxed) < 100 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, filled).await.expect("no receipts");
}

/// Sends frames again and again until the time is over. The session must not end, and may be made to
/// wait.
async fn repeat<'a>(
    field: &Field,
    foe: &mut Foe,
    mut frames: impl FnMut() -> Vec<ClientFrame<'a>>,
) {
    let sending = async {
        while foe.send(&frames()).await {
            tokio::task::yield_now().await;
        }
    };
    let left = field.until.saturating_duration_since(Instant::now());
    let ended = timeout(left, sending).await.is_ok();
    assert!(!ended, "{:?}", foe.connection.close_reason());
}

/// What a rate allows in a time: its burst, the time's share, and a batch for each of `streams`.
fn most(rate: u64, seconds: f64, batch: f64) -> f64 {
    rate as f64 * (seconds + 1.0) * 1.05 + batch
}

/// 1,000 bytes each, no two alike.
pub async fn payloads(field: Field) -> String {
    let mut foe = Foe::greet(&field, field.address(1)).await;
    assert!(foe.send(&[ClientFrame::Topic { alias: 0, name: "flood/payloads" }]).await);
    let begun = Instant::now();
    let mut sent = 0_u64;
    while !field.is_over() {
        let payloads: Vec<_> = (sent + 1..=sent + 100)
            .map(|number| (number, [&number.to_le_bytes()[..], &[7; 992]].concat()))
            .collect();
        let frames: Vec<_> = payloads.iter().map(|(n, payload)| publish(0, *n, payload)).collect();
        assert!(foe.send(&frames).await, "the session ended");
        sent += 100;
    }
    let seconds = Field::seconds(begun);
    let accepted = foe.seen.receipts.load(Relaxed);
    assert!((accepted as f64) <= most(MESSAGES, seconds, 512.0), "{accepted} in {seconds} s");
    let told = foe.seen.rate_limited.load(Relaxed);
    format!("{:.0} accepted a second, of {MESSAGES}; told {told} times", accepted as f64 / seconds)
}

/// Publications in datagrams, without a pause.
pub async fn datagrams(field: Field) -> String {
    let mut foe = Foe::greet(&field, field.address(1)).await;
    assert!(foe.send(&[ClientFrame::Topic { alias: 0, name: "flood/datagrams" }]).await);
    let (begun, mut sent) = (Instant::now(), 0_u64);
    while !field.is_over() {
        sent += 1;
        let payload = [&sent.to_le_bytes()[..], &[7; 92]].concat();
        let datagram = encoded(&[publish(0, sent, &payload)]).into();
        if foe.connection.send_datagram_wait(datagram).await.is_err() {
            break;
        }
    }
    let seconds = Field::seconds(begun);
    sleep(Duration::from_millis(500)).await;
    let refused = foe.seen.rate_limited.load(Relaxed);
    assert!(foe.connection.close_reason().is_none());
    format!(
        "{:.0} sent a second, {:.0} of them refused, others lost",
        sent as f64 / seconds,
        refused as f64 / seconds
    )
}

/// A new topic for each publication. A session has 4,096 aliases.
pub async fn topics(field: Field) -> String {
    let (begun, mut made) = (Instant::now(), 0);
    for n in 0_u16.. {
        let mut foe = Foe::greet(&field, field.address(n)).await;
        for turn in 0..40 {
            let names: Vec<_> = (0..100).map(|k| format!("t/{n}/{}", turn * 100 + k)).collect();
            let mut frames = Vec::new();
            for (alias, name) in (turn * 100..).zip(&names) {
                frames.extend([ClientFrame::Topic { alias, name }, publish(alias, 1, b"new")]);
            }
            assert!(foe.send(&frames).await, "the session ended");
            if field.is_over() {
                break;
            }
        }
        sleep(Duration::from_millis(500)).await;
        made += foe.seen.receipts.load(Relaxed);
        if field.is_over() {
            break;
        }
    }
    let seconds = Field::seconds(begun);
    assert!(made > 0, "no topic was made");
    format!("{:.0} topics a second, the oldest forgotten", made as f64 / seconds)
}

/// Subscriptions to everything that end at once.
pub async fn subscriptions(field: Field) -> String {
    let mut foe = Foe::greet(&field, field.address(1)).await;
    let (begun, mut sent) = (Instant::now(), 0);
    while !field.is_over() {
        let first = sent + 1;
        let begin = (first..first + 100).map(|n| subscribe(n, "**", Delivery::Ordered));
        let end =
            (first..first + 100).map(|subscription| ClientFrame::Unsubscribe { subscription });
        assert!(foe.send(&begin.chain(end).collect::<Vec<_>>()).await, "the session ended");
        sent += 100;
    }
    let seconds = Field::seconds(begun);
    let (answers, mib) = (foe.seen.answers.load(Relaxed), foe.seen.mib());
    assert!((answers as f64) <= most(MESSAGES, seconds, 512.0), "{answers} in {seconds} s");
    format!("{:.0} a second, {:.1} MiB a second sent", answers as f64 / seconds, mib / seconds)
}

/// All of the cache in each mode, again whenever a round is read or has taken a second.
pub async fn replays(field: Field) -> String {
    let mut foe = Foe::greet(&field, field.address(1)).await;
    let (begun, mut request) = (Instant::now(), 0);
    while !field.is_over() {
        let mut frames = Vec::new();
        for n in 0..30_u32 {
            let delivery =
                [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime][n as usize % 3];
            frames.push(subscribe(request + n, "**", delivery));
        }
        assert!(foe.send(&frames).await);
        sleep(Duration::from_millis(500)).await;
        let end =
            (request..request + 30).map(|subscription| ClientFrame::Unsubscribe { subscription });
        assert!(foe.send(&end.collect::<Vec<_>>()).await, "the session ended");
        request += 30;
    }
    let (seconds, mib) = (Field::seconds(begun), foe.seen.mib());
    // Subscriptions read a batch each at the same time.
    let batches = 30.0 * 64.0 / 1024.0 * 2.0 * (seconds * 2.0 + 1.0);
    assert!(mib <= most(REPLAY, seconds, 0.0) / MIB + batches, "{mib} MiB in {seconds} s");
    format!("{:.1} MiB a second sent, of {}", mib / seconds, REPLAY >> 20)
}

// Reads everything that comes until the time is over. Returns the bytes, and the statuses.
async fn drain(h2: &mut H2, until: Instant) -> (u64, Vec<u16>) {
    let (mut bytes, mut statuses) = (0, Vec::new());
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let Ok(Some(frame)) = timeout(left, h2.polite()).await else { break };
        match frame.kind {
            DATA => {
                bytes += frame.payload.len() as u64;
                h2.widen(0, frame.payload.len().max(1) as u32).await;
            }
            HEADERS => statuses.push(frame.status()),
            RST_STREAM => statuses.push(0),
            _ => {}
        }
    }
    (bytes, statuses)
}

/// Streams of events with everything, on several connections of one address.
pub async fn events(field: Field) -> String {
    let begun = Instant::now();
    let mut reading = Vec::new();
    for _ in 0..3 {
        let mut h2 = h2(&field, field.address(1), 4 << 20).await;
        let until = field.until;
        reading.push(tokio::spawn(async move {
            h2.widen(0, 16 << 20).await;
            for _ in 0..90 {
                h2.ask("GET", "/v1/events/**?from=all", &[]).await;
            }
            drain(&mut h2, until).await
        }));
    }
    let (mut bytes, mut opened, mut refused) = (0, 0, 0);
    for reading in reading {
        let (more, statuses) = reading.await.unwrap();
        bytes += more;
        opened += statuses.iter().filter(|status| **status == 200).count();
        refused += statuses.iter().filter(|status| **status != 200).count();
    }
    let (seconds, mib) = (Field::seconds(begun), bytes as f64 / MIB);
    assert!(opened <= 256, "{opened} streams");
    format!("{opened} streams, {refused} refused, {:.1} MiB of text a second", mib / seconds)
}

/// A payload of 2 MiB, requested by 18 bytes.
pub async fn gets(field: Field) -> String {
    let mut foe = Foe::greet(&field, field.address(1)).await;
    let payload = vec![7; 2 << 20];
    assert!(foe.send(&[ClientFrame::Topic { alias: 0, name: "flood/large" }]).await);
    assert!(foe.send(&[publish(0, 1, &payload)]).await);
    let (begun, mut request) = (Instant::now(), 0);
    repeat(&field, &mut foe, || {
        request += 50;
        (request - 49..=request)
            .map(|request| ClientFrame::Get { request, topic: "flood/large", which: Which::Latest })
            .collect()
    })
    .await;
    let (seconds, mib) = (Field::seconds(begun), foe.seen.mib());
    assert!(mib <= most(REPLAY, seconds, 16.0 * MIB) / MIB, "{mib} MiB in {seconds} s");
    format!("{request} requested, {:.1} MiB a second sent, of {}", mib / seconds, REPLAY >> 20)
}

pub async fn http_gets(field: Field) -> String {
    let mut foe = Foe::greet(&field, field.address(2)).await;
    fill(&mut foe, "flood/votes").await;
    let begun = Instant::now();
    let mut h2 = h2(&field, field.address(1), 4 << 20).await;
    h2.widen(0, 1 << 30).await;
    let (mut bytes, mut asked, mut refused) = (0, 0, 0);
    while !field.is_over() {
        for n in 0..50 {
            let target = ["/v1/topics/flood%2Flarge", "/v1/topics/flood%2Fvotes/top?k=100"][n % 2];
            h2.ask("GET", target, &[]).await;
            asked += 1;
        }
        let until = field.until.min(Instant::now() + Duration::from_millis(500));
        let (more, statuses) = drain(&mut h2, until).await;
        bytes += more;
        refused += statuses.iter().filter(|status| **status != 200).count();
    }
    let (seconds, mib) = (Field::seconds(begun), bytes as f64 / MIB);
    // Each of a hundred streams may be ahead by a batch, and rankings count as what they hold.
    assert!(mib <= most(REPLAY, seconds, 20.0 * MIB) / MIB, "{mib} MiB in {seconds} s");
    format!("{asked} requested, {refused} refused, {:.1} MiB a second sent", mib / seconds)
}

pub async fn rankings(field: Field) -> String {
    let mut foe = Foe::greet(&field, field.address(1)).await;
    fill(&mut foe, "flood/ranked").await;
    let (begun, mut request) = (Instant::now(), 0);
    repeat(&field, &mut foe, || {
        request += 200;
        (request - 199..=request)
            .map(|request| ClientFrame::Top { request, topic: "flood/ranked", k: 100 })
            .collect()
    })
    .await;
    let (seconds, mib) = (Field::seconds(begun), foe.seen.mib());
    assert!(mib <= most(REPLAY, seconds, MIB) / MIB, "{mib} MiB in {seconds} s");
    let answers = foe.seen.answers.load(Relaxed);
    format!("{:.0} answered a second, {:.1} MiB", answers as f64 / seconds, mib / seconds)
}

/// The same hole again and again, on the control stream.
pub async fn repairs(field: Field) -> String {
    let mut foe = Foe::greet(&field, field.address(1)).await;
    fill(&mut foe, "flood/repairs").await;
    let frame = subscribe(1, "flood/repairs", Delivery::Realtime);
    assert!(foe.send(&[frame]).await);
    let topic = async {
        while foe.seen.sequence.load(Relaxed) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, topic).await.expect("no message came");
    let begun = Instant::now();
    let before = foe.seen.mib();
    let topic = foe.seen.topic.load(Relaxed);
    repeat(&field, &mut foe, || {
        let holes = (0..50).map(|n| (2 * n + 1, 2 * n + 1)).collect();
        vec![ClientFrame::Repair { subscription: 1, topic, holes }]
    })
    .await;
    let (seconds, mib) = (Field::seconds(begun), foe.seen.mib() - before);
    assert!(mib <= most(REPLAY, seconds, 2.0 * MIB) / MIB, "{mib} MiB in {seconds} s");
    format!("{:.1} MiB a second sent, of {}", mib / seconds, REPLAY >> 20)
}
