//! Publications that do not end, and too many over HTTP.

use crate::arena::{Field, MESSAGES};
use crate::peers::{Foe, tcp};
use crate::raw::encoded;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;
use weir::wire::ClientFrame;

/// Large payloads that are begun, 90 in each session.
const BEGUN: u64 = 1000;

pub async fn unended(field: Field) -> String {
    let chunk = vec![7; 1000];
    let (mut foes, mut streams) = (Vec::new(), Vec::new());
    while (streams.len() as u64) < BEGUN {
        let mut foe = Foe::greet(&field, field.address(1)).await;
        for number in 1..=90 {
            let opening = timeout(Duration::from_secs(10), foe.connection.open_uni());
            let mut tx = opening.await.expect("no stream").expect("the session ended");
            let size = 4 << 20;
            let begin = ClientFrame::Begin { alias: 0, number, stamp: 0, size };
            let topic = ClientFrame::Topic { alias: 0, name: "unended" };
            let frames = encoded(&[topic, begin, ClientFrame::Chunk { bytes: &chunk }]);
            let _ = tx.write_all(&frames).await;
            streams.push(tx);
        }
        assert!(foe.send(&[ClientFrame::Ping { request: 1 }]).await);
        foes.push(foe);
    }
    // A publication without progress has 10 s.
    let begun = Instant::now();
    let answered =
        |foes: &[Foe]| -> u64 { foes.iter().map(|foe| foe.seen.refused.load(Relaxed)).sum() };
    while answered(&foes) < streams.len() as u64 && begun.elapsed() < Duration::from_secs(40) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (refused, seconds) = (answered(&foes), Field::seconds(begun));
    let ended = foes.iter().filter(|foe| foe.connection.close_reason().is_some()).count();
    assert_eq!((refused, ended), (streams.len() as u64, 0), "after {seconds} s");
    format!("{refused} of {} refused after {seconds:.0} s, no session ended", streams.len())
}

/// Requests of one address, each on the connection before.
pub async fn posts(field: Field) -> String {
    let begun = Instant::now();
    let mut posting = JoinSet::new();
    for _ in 0..16 {
        let field = field.clone();
        posting.spawn(async move {
            let mut stream = tcp(field.http, field.address(1)).await.unwrap();
            let request = "POST /v1/topics/posts HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello";
            let (mut accepted, mut answer) = (0_u64, vec![0; 1024]);
            while !field.is_over() {
                if stream.write_all(request.as_bytes()).await.is_err() {
                    break;
                }
                match timeout(Duration::from_secs(15), stream.read(&mut answer)).await {
                    Ok(Ok(length)) if length > 12 && &answer[9..12] == b"200" => accepted += 1,
                    Ok(Ok(length)) if length > 12 && &answer[9..12] == b"429" => {}
                    other => panic!("{other:?}: {}", String::from_utf8_lossy(&answer)),
                }
            }
            accepted
        });
    }
    let mut accepted = 0;
    while let Some(more) = posting.join_next().await {
        accepted += more.unwrap();
    }
    let seconds = Field::seconds(begun);
    assert!(accepted as f64 <= MESSAGES as f64 * (seconds + 1.0) * 1.05, "{accepted}");
    format!("{:.0} accepted a second, of {MESSAGES}", accepted as f64 / seconds)
}
