//! Attacks with subscriptions and requests.

use crate::attacks::{beat, ordered, publish, subscribe};
use crate::foe::{Reads, Siege, encoded};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use weir::wire::{ClientFrame, Delivery, Position, Resume, Start, Which};

// Subscriptions that end as soon as others begin, of topics of another publisher.
pub async fn churn(siege: Arc<Siege>, attack: &'static str, reads: Reads) {
    let Some(mut foe) = siege.foe(attack, reads).await else { return };
    let mut beat = beat(50);
    for request in 1.. {
        beat.tick().await;
        let filter = ["honest/quic", "honest/**", "churn/*"][request as usize % 3];
        let begin = ordered(request, filter, Start::New);
        let end = ClientFrame::Unsubscribe { subscription: request.max(2) - 1 };
        if !foe.send(&[begin, end]).await {
            return;
        }
    }
}

/// The maximum number of subscriptions of a session. They examine every topic and match few.
pub async fn wildcards(siege: Arc<Siege>, filter: &'static str) {
    let Some(mut foe) = siege.foe("wildcards", Reads::All).await else { return };
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
            if !foe.send(&frames).await || !socket.send(&frames).await {
                return;
            }
        }
    }
}

/// Subscriptions to everything from its beginning, which are not read.
pub async fn everything(siege: Arc<Siege>, subscriptions: u32) {
    let Some(mut foe) = siege.foe("everything, unread", Reads::Deaf).await else { return };
    let frames: Vec<_> =
        (1..=subscriptions).map(|request| ordered(request, "**", Start::All)).collect();
    foe.send(&frames).await;
    foe.stay(20).await;
}

/// Subscriptions that resume with the longest list that a frame may have.
pub async fn resumes(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("resumes", Reads::All).await else { return };
    let names: Vec<_> = (0..1 << 16).map(|n| format!("t/{n:x}")).collect();
    let topics: Vec<_> = names.iter().map(|topic| Resume { topic, epoch: 1, next: 1 }).collect();
    let mut beat = beat(1);
    for request in 1.. {
        beat.tick().await;
        let since = Position { run: 0, position: 0 };
        let start = Start::Resume { since, topics: topics.clone() };
        let end = ClientFrame::Unsubscribe { subscription: request };
        if !foe.send(&[ordered(request, "t/**", start), end]).await {
            return;
        }
    }
}

/// Thousands of subscriptions to the same and to different filters, woken by one publisher.
pub async fn woken(siege: Arc<Siege>) {
    let mut foes = Vec::new();
    for peer in 0..8_u32 {
        let Some(mut foe) = siege.foe("woken", Reads::All).await else { return };
        let filters: Vec<_> = (0..125).map(|n| format!("woken/{}/*", peer * 125 + n)).collect();
        let distinct = (1..).zip(&filters).map(|(n, filter)| ordered(n, filter, Start::New));
        let same = (126..=250).map(|request| ordered(request, "woken/**", Start::New));
        if !foe.send(&distinct.chain(same).collect::<Vec<_>>()).await {
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
        if !foes[0].send(&frames).await
            || foes.iter().any(|foe| foe.connection.close_reason().is_some())
        {
            return;
        }
    }
}

/// The maximum number of aliases and filters, with names of maximum length.
pub async fn names(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("names", Reads::All).await else { return };
    let long = "n".repeat(240);
    let mut beat = beat(16);
    for turn in 0..16_u32 {
        beat.tick().await;
        let names: Vec<_> = (0..256).map(|n| format!("{long}/{:08x}", turn * 256 + n)).collect();
        let aliases: Vec<_> = (turn * 256..)
            .zip(&names)
            .map(|(alias, name)| ClientFrame::Topic { alias, name })
            .collect();
        if !foe.send(&aliases).await {
            return;
        }
        let filters: Vec<_> =
            (0..16).map(|n| ordered(turn * 16 + n + 1, &names[n as usize], Start::New)).collect();
        if !foe.send(&filters).await {
            return;
        }
    }
    foe.stay(20).await;
}

/// Subscribers that do not read, with a deadline and without.
pub async fn deaf(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("deaf", Reads::Deaf).await else { return };
    let modes = [Delivery::Ordered, Delivery::Unordered, Delivery::Realtime];
    let frames: Vec<_> = (1..=9)
        .map(|n| {
            let deadline = [0, 50, 1000][n as usize / 3 % 3];
            subscribe(n, "flood/**", Start::All, modes[n as usize % 3], deadline)
        })
        .collect();
    foe.send(&frames).await;
    foe.stay(30).await;
}

/// Requests for holes that do not exist, the maximum number in a frame, in datagrams and on
/// streams.
pub async fn repairs(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("repairs", Reads::All).await else { return };
    if !foe.send(&[subscribe(1, "flood/1", Start::New, Delivery::Realtime, 0)]).await {
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
        if !foe.send(&[repair]).await {
            return;
        }
    }
}

/// `Get` and `Top`. If the daemon may open no stream for an answer, it must keep the answer.
pub async fn asks(siege: Arc<Siege>, attack: &'static str, reads: Reads) {
    let Some(mut foe) = siege.foe(attack, reads).await else { return };
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
        if !foe.send(&frames).await {
            return;
        }
    }
}
