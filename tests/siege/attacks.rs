//! The attacks over sessions. The attackers represent other machines. Each has a fixed rate, so
//! that the test measures the daemon, and not the processors that they share with it.

use crate::foe::{Ear, Siege, encoded};
use crate::honest::Way;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use weir::Transport;
use weir::wire::{ClientFrame, Delivery, Lag, Position, Resume, Start, Which};

/// Returns a timer with this rate, which does not catch up after a delay.
pub fn beat(per_second: u64) -> Interval {
    let mut beat = interval(Duration::from_nanos(1_000_000_000 / per_second));
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}

fn subscribe<'a>(
    request: u32,
    filter: &'a str,
    start: Start<'a>,
    delivery: Delivery,
    deadline: u32,
) -> ClientFrame<'a> {
    ClientFrame::Subscribe { request, filter, start, delivery, lag: Lag::Oldest, deadline }
}

fn ordered<'a>(request: u32, filter: &'a str, start: Start<'a>) -> ClientFrame<'a> {
    subscribe(request, filter, start, Delivery::Ordered, 0)
}

fn publish(alias: u32, number: u64, payload: &[u8]) -> ClientFrame<'_> {
    ClientFrame::Publish { alias, number, stamp: 0, payload }
}

// Subscriptions that end as soon as others begin, of topics of another publisher.
async fn churn(siege: Arc<Siege>, attack: &'static str, ear: Ear) {
    let Some(mut foe) = siege.foe(attack, ear).await else { return };
    let mut beat = beat(50);
    for request in 1.. {
        beat.tick().await;
        let filter = ["honest/quic", "honest/**", "churn/*"][request as usize % 3];
        let begin = ordered(request, filter, Start::New);
        let end = ClientFrame::Unsubscribe { subscription: request.max(2) - 1 };
        if !foe.say(&[begin, end]).await {
            return;
        }
    }
}

/// The maximum number of subscriptions of a session. They examine every topic and match few.
async fn wildcards(siege: Arc<Siege>, filter: &'static str) {
    let Some(mut foe) = siege.foe("wildcards", Ear::Reads).await else { return };
    let Some(mut socket) = siege.socket("wildcards over websocket").await else { return };
    let mut beat = beat(2);
    for turn in 0.. {
        let first = turn * 256 + 1;
        let begin: Vec<_> = (first..first + 256).map(|n| ordered(n, filter, Start::All)).collect();
        let end: Vec<_> = (first..first + 256)
            .map(|subscription| ClientFrame::Unsubscribe { subscription })
            .collect();
        for frames in [begin, end] {
            beat.tick().await;
            if !foe.say(&frames).await || !socket.say(&frames).await {
                return;
            }
        }
    }
}

/// Subscriptions to everything from its beginning, which are not read.
async fn everything(siege: Arc<Siege>, subscriptions: u32) {
    let Some(mut foe) = siege.foe("everything, unread", Ear::Deaf).await else { return };
    let frames: Vec<_> =
        (1..=subscriptions).map(|request| ordered(request, "**", Start::All)).collect();
    foe.say(&frames).await;
    foe.stay(20).await;
}

/// Subscriptions that resume with the longest list that a frame may have.
async fn resumes(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("resumes", Ear::Reads).await else { return };
    let names: Vec<_> = (0..1 << 16).map(|n| format!("t/{n:x}")).collect();
    let topics: Vec<_> = names.iter().map(|topic| Resume { topic, epoch: 1, next: 1 }).collect();
    let mut beat = beat(1);
    for request in 1.. {
        beat.tick().await;
        let since = Position { run: 0, position: 0 };
        let start = Start::Resume { since, topics: topics.clone() };
        let end = ClientFrame::Unsubscribe { subscription: request };
        if !foe.say(&[ordered(request, "t/**", start), end]).await {
            return;
        }
    }
}

/// Thousands of subscriptions to the same and to different filters, woken by one publisher.
async fn woken(siege: Arc<Siege>) {
    let mut foes = Vec::new();
    for peer in 0..8_u32 {
        let Some(mut foe) = siege.foe("woken", Ear::Reads).await else { return };
        let filters: Vec<_> = (0..125).map(|n| format!("woken/{}/*", peer * 125 + n)).collect();
        let distinct = (1..).zip(&filters).map(|(n, filter)| ordered(n, filter, Start::New));
        let same = (126..=250).map(|request| ordered(request, "woken/**", Start::New));
        if !foe.say(&distinct.chain(same).collect::<Vec<_>>()).await {
            return;
        }
        foes.push(foe);
    }
    let mut beat = beat(4);
    for number in 1_u64.. {
        beat.tick().await;
        let name = format!("woken/{}/x", number % 1000);
        let alias = (number % 1000) as u32;
        let frames = [ClientFrame::Topic { alias, name: &name }, publish(alias, number, b"woken")];
        if !foes[0].say(&frames).await
            || foes.iter().any(|foe| foe.connection.close_reason().is_some())
        {
            return;
        }
    }
}

/// A hundred new topics a second, for which others are forgotten.
async fn topics(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("new topics", Ear::Reads).await else { return };
    let mut beat = beat(10);
    let begun = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for turn in 0..400_u32 {
        beat.tick().await;
        let names: Vec<_> = (0..10)
            .map(|n| begun.as_millis() as u64 + u64::from(turn * 10 + n))
            // One in a hundred matches a subscription.
            .map(|n| format!("t/{n:x}/{}", if n % 100 == 0 { "x" } else { "y" }))
            .collect();
        let mut frames = Vec::new();
        for (n, name) in (0..).zip(&names) {
            let alias = turn * 10 + n;
            frames.extend([ClientFrame::Topic { alias, name }, publish(alias, 1, b"new")]);
        }
        if !foe.say(&frames).await {
            return;
        }
    }
}

/// Incomplete publications on 90 streams, which get a byte now and then.
async fn unended(siege: Arc<Siege>, attack: &'static str, begin: bool) {
    let Some(foe) = siege.foe(attack, Ear::Reads).await else { return };
    let mut streams = Vec::new();
    let size = 1 << 20;
    let payload = vec![7; size];
    for number in 1..=90 {
        let opening = tokio::time::timeout(Duration::from_secs(5), foe.connection.open_uni());
        let Ok(Ok(mut tx)) = opening.await else { return };
        let topic = ClientFrame::Topic { alias: 0, name: "unended" };
        let bytes = if begin {
            let head = ClientFrame::Begin { alias: 0, number, stamp: 0, size: size as u64 };
            encoded(&[topic, head, ClientFrame::Chunk { bytes: &payload[..1000] }])
        } else {
            let whole = encoded(&[topic, publish(0, number, &payload)]);
            whole.slice(..20_000 + 500 * number as usize)
        };
        if tx.write_all(&bytes).await.is_err() {
            siege.note(attack, "stopped");
        }
        siege.note(attack, "turns");
        streams.push(tx);
        sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..20 {
        sleep(Duration::from_secs(1)).await;
        for tx in &mut streams {
            let more =
                if begin { encoded(&[ClientFrame::Chunk { bytes: b"x" }]) } else { "x".into() };
            let _ = tx.write_all(&more).await;
        }
    }
    for mut tx in streams {
        let _ = tx.reset(0_u32.into());
    }
}

/// A message of 3 MiB. Most of it arrives at once, and then a byte a second.
async fn messages(siege: Arc<Siege>) {
    let Some(mut socket) = siege.socket("messages that do not end").await else { return };
    let frames = encoded(&[
        ClientFrame::Topic { alias: 0, name: "unended" },
        publish(0, 1, &vec![7; 3 << 20]),
    ]);
    if !socket.head(frames.len()).await || !socket.bytes(&frames[..2 << 20]).await {
        return;
    }
    for at in 2 << 20..(2 << 20) + 40 {
        sleep(Duration::from_secs(1)).await;
        if !socket.bytes(&frames[at..=at]).await {
            return;
        }
    }
}

/// The maximum number of aliases and filters, with names of maximum length.
async fn names(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("names", Ear::Reads).await else { return };
    let long = "n".repeat(240);
    let mut beat = beat(16);
    for turn in 0..16_u32 {
        beat.tick().await;
        let names: Vec<_> = (0..256).map(|n| format!("{long}/{:08x}", turn * 256 + n)).collect();
        let aliases: Vec<_> = (turn * 256..)
            .zip(&names)
            .map(|(alias, name)| ClientFrame::Topic { alias, name })
            .collect();
        if !foe.say(&aliases).await {
            return;
        }
        let filters: Vec<_> =
            (0..16).map(|n| ordered(turn * 16 + n + 1, &names[n as usize], Start::New)).collect();
        if !foe.say(&filters).await {
            return;
        }
    }
    foe.stay(20).await;
}

/// 300 messages of 1 KiB a second, with nine subscriptions that are behind.
async fn flood(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("flood", Ear::Reads).await else { return };
    let names: Vec<_> = (0..10).map(|n| format!("flood/{n}")).collect();
    let topics: Vec<_> =
        (0..).zip(&names).map(|(alias, name)| ClientFrame::Topic { alias, name }).collect();
    if !foe.say(&topics).await {
        return;
    }
    let mut beat = beat(30);
    for number in 1_u64.. {
        beat.tick().await;
        let mut payload = vec![0; 1024];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        let frames: Vec<_> = (0..10).map(|alias| publish(alias, number, &payload)).collect();
        if !foe.say(&frames).await {
            return;
        }
    }
}

/// 3,000 messages of eight bytes a second, of which a batch holds thousands.
async fn tiny(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("tiny", Ear::Reads).await else { return };
    if !foe.say(&[ClientFrame::Topic { alias: 0, name: "tiny" }]).await {
        return;
    }
    let mut beat = beat(30);
    for turn in 0_u64.. {
        beat.tick().await;
        let numbers: Vec<_> =
            (turn * 100 + 1..=turn * 100 + 100).map(|n| (n, n.to_le_bytes())).collect();
        let frames: Vec<_> = numbers.iter().map(|(n, payload)| publish(0, *n, payload)).collect();
        if !foe.say(&frames).await {
            return;
        }
    }
}

/// Subscribers that do not read, with a deadline and without.
async fn deaf(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("deaf", Ear::Deaf).await else { return };
    let modes = [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];
    let frames: Vec<_> = (1..=9)
        .map(|n| {
            let deadline = [0, 50, 1000][n as usize / 3 % 3];
            subscribe(n, "flood/**", Start::All, modes[n as usize % 3], deadline)
        })
        .collect();
    foe.say(&frames).await;
    foe.stay(30).await;
}

/// Requests for holes that do not exist, the maximum number in a frame, in datagrams and on
/// streams.
async fn repairs(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("repairs", Ear::Reads).await else { return };
    if !foe.say(&[subscribe(1, "flood/1", Start::New, Delivery::Realtime, 0)]).await {
        return;
    }
    let mut beat = beat(50);
    loop {
        beat.tick().await;
        let topic = foe.seen.topic.load(Relaxed);
        let newest = foe.seen.sequence.load(Relaxed).max(200);
        let holes: Vec<_> = (0..64).map(|n| newest - 128 + 2 * n).map(|n| (n, n)).collect();
        let repair = ClientFrame::Repair { subscription: 1, topic, holes };
        let _ = foe.connection.send_datagram(encoded(std::slice::from_ref(&repair)));
        if !foe.say(&[repair]).await {
            return;
        }
    }
}

/// `Get` and `Top`. If the daemon may open no stream for an answer, it must keep the answer.
async fn asks(siege: Arc<Siege>, attack: &'static str, ear: Ear) {
    let Some(mut foe) = siege.foe(attack, ear).await else { return };
    let mut beat = beat(10);
    for turn in 0.. {
        beat.tick().await;
        let request = turn * 20 + 1;
        let mut frames = Vec::new();
        for n in 0..10 {
            let topic = ["large/0", "flood/1"][n as usize % 2];
            frames.push(ClientFrame::Get { request: request + 2 * n, topic, which: Which::Latest });
            let top = ClientFrame::Top { request: request + 2 * n + 1, topic: "flood/2", k: 100 };
            frames.push(top);
        }
        if !foe.say(&frames).await {
            return;
        }
    }
}

/// Publications that are refused with a long reason, which the publisher does not read.
async fn receipts(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("receipts, unread", Ear::Deaf).await else { return };
    if !foe.say(&[ClientFrame::Topic { alias: 0, name: "greedy" }]).await {
        return;
    }
    let mut beat = beat(20);
    loop {
        beat.tick().await;
        let frames = vec![publish(0, 0, b"refused"); 20];
        if !foe.say(&frames).await {
            return;
        }
    }
}

/// Two payloads of 2 MiB a second, to eight topics: the whole cache in eight seconds.
async fn large(siege: Arc<Siege>, way: Way) {
    let client = way.connect(Transport::Quic).await;
    let _counted = siege.counted(|siege| &siege.quic);
    let mut beat = beat(2);
    for n in 0_u64.. {
        beat.tick().await;
        let mut payload = vec![0; 2 << 20];
        payload[..8].copy_from_slice(&n.to_le_bytes());
        match client.publish(&format!("large/{}", n % 8), payload).await {
            Ok(_) => siege.note("large", "turns"),
            Err(weir::client::PublishError::Refused(refusal)) => {
                siege.note("large", format!("refused {}", refusal.code.name()));
            }
            Err(error) => {
                siege.note("large", format!("ended {error}"));
                return;
            }
        }
    }
}

/// A connection without a hello.
async fn mute(siege: Arc<Siege>) {
    let crypto =
        quinn::crypto::rustls::QuicClientConfig::try_from(crate::common::tls(weir::wire::ALPN));
    let config = quinn::ClientConfig::new(Arc::new(crypto.unwrap()));
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let connecting = endpoint.connect_with(config, siege.server, "localhost").unwrap();
    let Ok(connection) = connecting.await else { return };
    let _counted = siege.counted(|siege| &siege.quic);
    let how = match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            weir::wire::Code(close.error_code.into_inner() as u32).name().to_owned()
        }
        error => error.to_string(),
    };
    siege.note("mute", format!("ended {how}"));
}

/// Attacks that run only if they are named: the daemon does not withstand them yet.
const OTHERS: [&str; 3] = ["amplified", "batches", "tiny"];

/// Keeps this many instances of an attack running, unless `WEIR_SIEGE_ATTACKS` names only others.
pub fn keep<F>(
    siege: &Arc<Siege>,
    name: &str,
    times: u32,
    attack: impl Fn(Arc<Siege>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let chosen = std::env::var("WEIR_SIEGE_ATTACKS");
    let is_chosen =
        chosen.map_or(!OTHERS.contains(&name), |names| names.split(',').any(|n| n == name));
    if !is_chosen {
        return;
    }
    let attack = Arc::new(attack);
    for n in 0..times {
        let (siege, attack) = (siege.clone(), attack.clone());
        tokio::spawn(async move {
            // The instances do not start at the same time.
            sleep(Duration::from_millis(u64::from(n) * 97 % 2000)).await;
            loop {
                attack(siege.clone()).await;
                sleep(Duration::from_millis(500)).await;
            }
        });
    }
}

/// Starts all attacks. They do not end.
pub fn all(siege: &Arc<Siege>, way: &Way) {
    keep(siege, "churn", 2, |siege| churn(siege, "churn", Ear::Reads));
    keep(siege, "churn", 2, |siege| churn(siege, "churn, unread", Ear::Deaf));
    keep(siege, "wildcards", 1, |siege| wildcards(siege, "*/*/x"));
    keep(siege, "everything", 2, |siege| everything(siege, 64));
    keep(siege, "resumes", 1, resumes);
    keep(siege, "woken", 1, woken);
    keep(siege, "topics", 1, topics);
    keep(siege, "unended", 3, |siege| unended(siege, "publications that do not end", false));
    keep(siege, "begins", 8, |siege| unended(siege, "begins that do not end", true));
    keep(siege, "messages", 8, messages);
    keep(siege, "names", 3, names);
    keep(siege, "flood", 1, flood);
    keep(siege, "deaf", 4, deaf);
    keep(siege, "repairs", 2, repairs);
    keep(siege, "asks", 1, |siege| asks(siege, "asks", Ear::Reads));
    keep(siege, "asks", 2, |siege| asks(siege, "asks, no streams", Ear::NoStreams));
    keep(siege, "receipts", 2, receipts);
    keep(siege, "mute", 10, mute);
    let way = way.clone();
    keep(siege, "large", 1, move |siege| large(siege, way.clone()));
    keep(siege, "amplified", 1, |siege| wildcards(siege, "**"));
    keep(siege, "tiny", 1, tiny);
    keep(siege, "batches", 4, |siege| everything(siege, 256));
    crate::web::all(siege);
}
