//! The attacks over HTTP.

use crate::attacks::keep;
use crate::foe::Siege;
use crate::h2::{GOAWAY, H2, HEADERS, RST_STREAM};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Longer than all timeouts of the daemon.
const HOLD: Duration = Duration::from_secs(45);

// Answers pings and opens no window until the daemon closes the connection.
async fn hold(siege: &Siege, attack: &'static str, h2: &mut H2) {
    let held = async {
        while let Some(frame) = h2.polite().await {
            match frame.kind {
                HEADERS => siege.note(attack, format!("status {}", frame.status())),
                RST_STREAM => siege.note(attack, "reset"),
                GOAWAY => siege.note(attack, "goaway"),
                _ => {}
            }
        }
    };
    let closed = timeout(HOLD, held).await.is_ok();
    siege.note(attack, if closed { "closed by the daemon" } else { "left" });
}

/// A hundred answers of 2 MiB that are not read.
async fn gets(siege: Arc<Siege>) {
    let (mut h2, _counted) = siege.h2(0).await;
    for n in 0..100 {
        h2.ask("GET", &format!("/v1/topics/large%2F{}", n % 8), &[]).await;
        sleep(Duration::from_millis(20)).await;
    }
    hold(&siege, "gets, unread", &mut h2).await;
}

/// The same over HTTP/1.1.
async fn get(siege: Arc<Siege>) {
    let Ok(mut tcp) = TcpStream::connect(siege.http).await else { return };
    let _counted = siege.counted(|siege| &siege.connections);
    let head = "GET /v1/topics/large%2F1 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let _ = tcp.write_all(head.as_bytes()).await;
    sleep(HOLD).await;
    siege.note("gets over HTTP/1.1, unread", "left");
}

/// A hundred streams of events, of each of which a hundred bytes are read.
async fn events(siege: Arc<Siege>) {
    let (mut h2, _counted) = siege.h2(100).await;
    for n in 0..100 {
        let filter = ["large%2F**", "flood%2F**", "**", "*%2F*%2Fx"][n % 4];
        h2.ask("GET", &format!("/v1/events/{filter}?from=all"), &[]).await;
        sleep(Duration::from_millis(20)).await;
    }
    hold(&siege, "events, unread", &mut h2).await;
}

/// A body that is sent at 4 KiB a second, or at a byte a second.
async fn upload(siege: Arc<Siege>) {
    let Ok(mut tcp) = TcpStream::connect(siege.http).await else { return };
    let _counted = siege.counted(|siege| &siege.connections);
    let head = format!(
        "POST /v1/topics/upload HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        1 << 20
    );
    let _ = tcp.write_all(head.as_bytes()).await;
    let (mut rx, mut tx) = tcp.split();
    let answer = async {
        let mut answer = [0; 12];
        let complete = rx.read_exact(&mut answer).await.is_ok();
        complete.then(|| String::from_utf8_lossy(&answer[9..12]).into_owned())
    };
    let piece = vec![7; 2048];
    let body = async {
        while tx.write_all(&piece).await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
        sleep(HOLD).await;
    };
    tokio::select! {
        status = answer => {
            let status = status.unwrap_or_else(|| "none".into());
            siege.note("slow uploads", format!("status {status}"));
        }
        () = body => siege.note("slow uploads", "no answer"),
    }
}

/// Connections without requests, which answer pings.
async fn idle(siege: Arc<Siege>) {
    let (mut h2, _counted) = siege.h2(0).await;
    let closed = async { while h2.polite().await.is_some() {} };
    let closed = timeout(Duration::from_secs(100), closed).await.is_ok();
    siege.note("idle", if closed { "closed by the daemon" } else { "left" });
}

/// Half a request.
async fn half(siege: Arc<Siege>) {
    let Ok(mut tcp) = TcpStream::connect(siege.http).await else { return };
    let _counted = siege.counted(|siege| &siege.connections);
    let _ = tcp.write_all(b"GET /v1/top").await;
    let mut rest = Vec::new();
    let closed = timeout(HOLD, tcp.read_to_end(&mut rest)).await.is_ok();
    siege.note("half a request", if closed { "closed by the daemon" } else { "left" });
}

pub fn all(siege: &Arc<Siege>) {
    keep(siege, "gets", 3, gets);
    keep(siege, "get", 20, get);
    keep(siege, "events", 2, events);
    keep(siege, "upload", 40, upload);
    keep(siege, "idle", 30, idle);
    keep(siege, "half", 20, half);
}
