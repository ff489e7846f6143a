//! Attacks with publications.

use crate::attacks::{beat, publish};
use crate::foe::{Reads, Siege, encoded};
use crate::honest::Target;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use weir::Transport;
use weir::wire::ClientFrame;

/// A hundred new topics a second, for which others are forgotten.
pub async fn topics(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("new topics", Reads::All).await else { return };
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
        if !foe.send(&frames).await {
            return;
        }
    }
}

/// Incomplete publications on 90 streams, which get a byte now and then.
pub async fn unended(siege: Arc<Siege>, attack: &'static str, begin: bool) {
    let Some(foe) = siege.foe(attack, Reads::All).await else { return };
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
pub async fn messages(siege: Arc<Siege>) {
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

/// 300 messages of 1 KiB a second, with nine subscriptions that are behind.
pub async fn flood(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("flood", Reads::All).await else { return };
    let names: Vec<_> = (0..10).map(|n| format!("flood/{n}")).collect();
    let topics: Vec<_> =
        (0..).zip(&names).map(|(alias, name)| ClientFrame::Topic { alias, name }).collect();
    if !foe.send(&topics).await {
        return;
    }
    let mut beat = beat(30);
    for number in 1_u64.. {
        beat.tick().await;
        let mut payload = vec![0; 1024];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        let frames: Vec<_> = (0..10).map(|alias| publish(alias, number, &payload)).collect();
        if !foe.send(&frames).await {
            return;
        }
    }
}

/// 3,000 messages of eight bytes a second, of which a batch holds thousands.
pub async fn tiny(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("tiny", Reads::All).await else { return };
    if !foe.send(&[ClientFrame::Topic { alias: 0, name: "tiny" }]).await {
        return;
    }
    let mut beat = beat(30);
    for turn in 0_u64.. {
        beat.tick().await;
        let numbers: Vec<_> =
            (turn * 100 + 1..=turn * 100 + 100).map(|n| (n, n.to_le_bytes())).collect();
        let frames: Vec<_> = numbers.iter().map(|(n, payload)| publish(0, *n, payload)).collect();
        if !foe.send(&frames).await {
            return;
        }
    }
}

/// Publications that are refused with a long reason, which the publisher does not read.
pub async fn receipts(siege: Arc<Siege>) {
    let Some(mut foe) = siege.foe("receipts, unread", Reads::Deaf).await else { return };
    if !foe.send(&[ClientFrame::Topic { alias: 0, name: "greedy" }]).await {
        return;
    }
    let mut beat = beat(20);
    loop {
        beat.tick().await;
        let frames = vec![publish(0, 0, b"refused"); 20];
        if !foe.send(&frames).await {
            return;
        }
    }
}

/// Two payloads of 2 MiB a second, to eight topics: the whole cache in eight seconds.
pub async fn large(siege: Arc<Siege>, target: Target) {
    let client = target.connect(Transport::Quic).await;
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
