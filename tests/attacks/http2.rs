//! Attacks on HTTP/2 itself.

use crate::arena::Field;
use crate::h2::{DATA, GOAWAY, H2, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use crate::peers::{PATIENCE, h2, tcp};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

const PRIORITY: u8 = 2;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// Errors of RFC 9113, section 7.
fn error(code: u32) -> &'static str {
    match code {
        0 => "NO_ERROR",
        1 => "PROTOCOL_ERROR",
        3 => "FLOW_CONTROL_ERROR",
        7 => "REFUSED_STREAM",
        9 => "COMPRESSION_ERROR",
        11 => "ENHANCE_YOUR_CALM",
        _ => "another error",
    }
}

/// Reads up to the end of the connection. Returns the error, and what came before it.
async fn end(h2: &mut H2, patience: Duration) -> (String, BTreeMap<&'static str, u32>) {
    let (mut how, mut frames) = (None, BTreeMap::new());
    let reading = async {
        while let Some(frame) = h2.frame().await {
            match frame.kind {
                GOAWAY => {
                    let code = u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
                    how = Some(format!("GOAWAY {}", error(code)));
                }
                RST_STREAM => *frames.entry("reset").or_insert(0) += 1,
                HEADERS => *frames.entry("answered").or_insert(0) += 1,
                _ => {}
            }
        }
    };
    let closed = timeout(patience, reading).await.is_ok();
    (how.unwrap_or_else(|| if closed { "closed" } else { "open" }.into()), frames)
}

fn told(outcomes: &BTreeMap<String, u32>) -> String {
    let mut text = String::new();
    for (how, count) in outcomes {
        let _ = write!(text, "{}{how} {count}", if text.is_empty() { "" } else { ", " });
    }
    text
}

/// Repeats an attack that sends on a connection of its own until the end of the time. The connection
/// has to end in one of these ways.
async fn repeat<F>(field: Field, expected: &[&str], attack: impl Fn(H2, Field) -> F) -> String
where
    F: Future<Output = (String, u64)>,
{
    let (mut outcomes, mut sent) = (BTreeMap::new(), 0);
    for n in 0.. {
        let (how, frames) =
            attack(h2(&field, field.address(n), 1 << 16).await, field.clone()).await;
        assert!(expected.contains(&&*how), "{how} after {frames} frames");
        *outcomes.entry(how).or_insert(0) += 1;
        sent += frames;
        if field.is_over() {
            break;
        }
    }
    format!("{sent} frames; {}", told(&outcomes))
}

/// Requests that are cancelled at once.
pub async fn rapid_reset(field: Field) -> String {
    repeat(field, &["GOAWAY ENHANCE_YOUR_CALM"], |mut h2, _| async move {
        let mut sent = 0;
        for _ in 0..5000 {
            let stream = h2.ask("GET", "/v1/topics/honest%2Fquic", &[]).await;
            h2.send(RST_STREAM, 0, stream, &CANCEL).await;
            sent += 2;
        }
        (end(&mut h2, PATIENCE).await.0, sent)
    })
    .await
}

/// Streams that the daemon resets, because they violate the protocol: a window update of 0.
pub async fn made_resets(field: Field) -> String {
    let expected = ["GOAWAY ENHANCE_YOUR_CALM", "GOAWAY PROTOCOL_ERROR"];
    repeat(field, &expected, |mut h2, _| async move {
        let mut sent = 0;
        for _ in 0..5000 {
            let stream = h2.ask("POST", "/v1/topics/reset", &[]).await;
            h2.widen(stream, 0).await;
            sent += 2;
        }
        (end(&mut h2, PATIENCE).await.0, sent)
    })
    .await
}

/// A header list that never ends.
pub async fn continuations(field: Field) -> String {
    let expected = ["GOAWAY ENHANCE_YOUR_CALM", "GOAWAY COMPRESSION_ERROR", "closed"];
    repeat(field, &expected, |mut h2, _| async move {
        let mut sent = 1;
        h2.send(HEADERS, 0, 1, &[0x82]).await;
        // A literal field without indexing: a name of one byte, a value of one byte.
        let fields = [0, 1, b'a', 1, b'b'].repeat(1000);
        for _ in 0..2000 {
            h2.send(CONTINUATION, 0, 1, &fields).await;
            sent += 1;
        }
        (end(&mut h2, PATIENCE).await.0, sent)
    })
    .await
}

/// A list that the daemon need not keep to refuse it.
pub async fn header_list(field: Field) -> String {
    let (mut refused, mut ended, begun) = (0, 0, Instant::now());
    let mut connection = h2(&field, field.address(1), 1 << 16).await;
    while !field.is_over() {
        let filler = "f".repeat(120);
        let many: Vec<_> = (0..130).map(|_| ("x", &*filler)).collect();
        let stream = connection.ask("GET", "/v1/topics/a", &many).await;
        let answer = timeout(PATIENCE, connection.polite()).await.unwrap();
        let answer = answer.expect("the connection ended without a word");
        if answer.kind == GOAWAY {
            // No request came through in 10 s.
            connection = h2(&field, field.address(1), 1 << 16).await;
            ended += 1;
            continue;
        }
        assert_eq!(answer.stream, stream);
        match answer.kind {
            HEADERS => assert_eq!(answer.status(), 431),
            RST_STREAM => {}
            other => panic!("a frame of kind {other}"),
        }
        refused += 1;
    }
    let seconds = Field::seconds(begun);
    format!("{refused} refused with 431 in {seconds:.1} s, {ended} connections closed")
}

/// Pings and settings whose answers are not read.
pub async fn pings(field: Field) -> String {
    let begun = Instant::now();
    let mut all = 0_u64;
    for (n, kind) in [(1, PING), (2, SETTINGS)] {
        let mut stream = tcp(field.http, field.address(n)).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut bytes = Vec::new();
        let payload: &[u8] = if kind == PING { &[7; 8] } else { &[0, 4, 0, 0, 0xff, 0xff] };
        for _ in 0..10_000 {
            bytes.extend([0, 0, payload.len() as u8, kind, 0, 0, 0, 0, 0]);
            bytes.extend(payload);
        }
        let flood = async {
            while stream.write_all(&bytes).await.is_ok() {
                all += 10_000;
            }
        };
        // It takes no more, or has closed the connection.
        let _ = timeout(Duration::from_secs(2), flood).await;
    }
    format!("{all} at least in {:.1} s, then the daemon reads no more", Field::seconds(begun))
}

/// Frames that carry nothing.
pub async fn empty_frames(field: Field) -> String {
    let (mut h2, begun, mut sent) =
        (h2(&field, field.address(1), 1 << 16).await, Instant::now(), 0);
    let stream = h2.ask("POST", "/v1/topics/empty", &[]).await;
    while !field.is_over() {
        for _ in 0..100 {
            h2.send(DATA, 0, stream, &[]).await;
            h2.send(PRIORITY, 0, stream + 2, &[0, 0, 0, 0, 1]).await;
            sent += 2;
        }
        tokio::task::yield_now().await;
    }
    let (how, frames) = end(&mut h2, PATIENCE).await;
    assert_ne!(how, "open", "a body without progress");
    format!("{sent} frames in {:.1} s; {how}, {frames:?}", Field::seconds(begun))
}

pub async fn windows(field: Field) -> String {
    let mut outcomes = BTreeMap::new();
    for n in 0.. {
        // The connection's window: an update of 0, and one beyond 2^31 - 1.
        for increment in [0, 0x7fff_ffff] {
            let mut h2 = h2(&field, field.address(n), 1 << 16).await;
            h2.send(WINDOW_UPDATE, 0, 0, &u32::to_be_bytes(increment)).await;
            let how = end(&mut h2, PATIENCE).await.0;
            let expected = ["GOAWAY PROTOCOL_ERROR", "GOAWAY FLOW_CONTROL_ERROR"];
            assert!(expected.contains(&&*how), "{increment}: {how}");
            *outcomes.entry(how).or_insert(0) += 1;
        }
        if field.is_over() {
            break;
        }
    }
    told(&outcomes)
}

/// Requests without an end, of which a connection may have a hundred.
pub async fn streams(field: Field) -> String {
    let mut h2 = h2(&field, field.address(1), 0).await;
    let (mut asked, begun) = (0, Instant::now());
    for _ in 0..10_000 {
        h2.ask("GET", "/v1/events/**", &[]).await;
        asked += 1;
        if field.is_over() && asked > 1000 {
            break;
        }
    }
    let (how, frames) = end(&mut h2, Duration::from_secs(2)).await;
    let answered = frames.get("answered").copied().unwrap_or_default();
    assert!(answered <= 100, "{answered} streams at once");
    let _ = END_HEADERS;
    format!("{asked} requests in {:.1} s: {frames:?}, {how}", Field::seconds(begun))
}
