//! The same over HTTP, where the requests of one address count together.

use crate::common::within;
use crate::h2::{DATA, H2, HEADERS, PING};
use crate::http::{Connection, ask};
use crate::{address, count, daemon};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};
use weir::Daemon;
use weir::daemon::Limit;

const MIB: usize = 1 << 20;

pub async fn connect(daemon: &Daemon, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    within(socket.connect(daemon.http_addr().unwrap())).await.unwrap()
}

/// Sends a request from this address. Returns the status and the answer.
pub async fn request(
    daemon: &Daemon,
    from: Ipv4Addr,
    method: &str,
    target: &str,
    body: Vec<u8>,
) -> (u16, Vec<u8>) {
    let to: SocketAddr = daemon.http_addr().unwrap();
    let request = ask(to, method, target).body(body);
    let mut connection: Connection = request.on(connect(daemon, from).await).await;
    let (status, headers) = within(connection.head()).await;
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(0, |(_, length)| length.parse().unwrap());
    (status, within(connection.exactly(length)).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publications_of_one_address_are_slowed() {
    let daemon = daemon(|limits| {
        limits.bytes = 16 * MIB as u64;
        limits.messages = 50;
    })
    .await;
    // Large bodies: 48 MiB, three seconds' worth.
    let begun = Instant::now();
    let of = |n, size, from| request(&daemon, address(from), "POST", "/v1/topics/a", vec![n; size]);
    let uploads = (0..6).map(|n| of(n, 8 * MIB, 1));
    let statuses = within(futures_util::future::join_all(uploads)).await;
    assert!(statuses.iter().all(|(status, _)| *status == 200), "{:?}", statuses[0].0);
    assert!(begun.elapsed() > Duration::from_millis(1700), "{:?}", begun.elapsed());
    // Small ones of another address: 150, three seconds' worth.
    let begun = Instant::now();
    for n in 0..150 {
        assert_eq!(of(n, 10, 2).await.0, 200);
    }
    assert!(begun.elapsed() > Duration::from_millis(1700), "{:?}", begun.elapsed());
    assert_eq!(count(&daemon, Limit::RateLimited), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_events_of_one_address_are_slowed() {
    let daemon = daemon(|limits| limits.replay = 2 * MIB as u64).await;
    for n in 0..6_u8 {
        daemon.publish("past", vec![b'a' + n; MIB]).unwrap();
        for k in 0..64_u8 {
            daemon
                .publish("small", [vec![b'a' + n, b'0' + k], vec![b'x'; 16 << 10]].concat())
                .unwrap();
        }
        daemon.publish("votes", vec![b'a' + n; 1024]).unwrap();
    }
    // 6 MiB are two seconds more than the burst.
    let slow = Duration::from_millis(1500);
    let begun = Instant::now();
    for _ in 0..6 {
        let get = request(&daemon, address(1), "GET", "/v1/topics/past", Vec::new());
        let (status, body) = get.await;
        assert_eq!((status, body.len()), (200, MIB));
    }
    assert!(begun.elapsed() > slow, "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..384 {
        let get = request(&daemon, address(2), "GET", "/v1/topics/small", Vec::new());
        assert_eq!(get.await.0, 200);
    }
    assert!(begun.elapsed() > slow, "{:?}", begun.elapsed());
    // A ranking counts as what it holds.
    let begun = Instant::now();
    for _ in 0..800 {
        let top = request(&daemon, address(3), "GET", "/v1/topics/votes/top", Vec::new());
        assert_eq!(top.await.0, 200);
    }
    assert!(begun.elapsed() > slow, "{:?}", begun.elapsed());
    for topic in ["past", "small"] {
        let begun = Instant::now();
        let target = format!("/v1/events/{topic}?from=all");
        let events = ask(daemon.http_addr().unwrap(), "GET", &target);
        let mut connection = events.on(connect(&daemon, address(4)).await).await;
        assert_eq!(within(connection.head()).await.0, 200);
        let mut received = 0;
        while received < 6 * MIB {
            received += within(connection.chunk()).await.unwrap().len();
        }
        assert!(begun.elapsed() > slow, "{topic}: {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(count(&daemon, Limit::Replay) > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_256_streams_of_events() {
    let daemon = daemon(|_| {}).await;
    let mut held = Vec::new();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let mut h2 = H2::on(connect(&daemon, address(1)).await, 1000).await;
        for _ in 0..100 {
            h2.ask("GET", "/v1/events/a", &[]).await;
        }
        for _ in 0..100 {
            statuses.push(within(h2.next(HEADERS)).await.unwrap().status());
        }
        held.push(h2);
    }
    let accepted = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((accepted, statuses.iter().filter(|status| **status == 429).count()), (256, 44));
    assert_eq!(count(&daemon, Limit::EventStreamsPerAddress), 44);
    let mut other = H2::on(connect(&daemon, address(2)).await, 1000).await;
    other.ask("GET", "/v1/events/a", &[]).await;
    assert_eq!(within(other.next(HEADERS)).await.unwrap().status(), 200);
    drop(held);
    within(async {
        loop {
            let mut h2 = H2::on(connect(&daemon, address(1)).await, 1000).await;
            h2.ask("GET", "/v1/events/a", &[]).await;
            if h2.next(HEADERS).await.unwrap().status() == 200 {
                break;
            }
        }
    })
    .await;
}

// A flood of pings once took 0.9 of a core for as long as it went on, and no limit counted it.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_carry_nothing_have_the_rate_of_messages() {
    let daemon = daemon(|limits| limits.messages = 100).await;
    let mut h2 = H2::on(connect(&daemon, address(1)).await, 1000).await;
    let pings = async |h2: &mut H2, count: u32| {
        for n in 0..count {
            let opaque = [n.to_be_bytes(), [0; 4]].concat();
            within(h2.send(PING, 0, 0, &opaque)).await;
        }
    };
    // The burst is answered at once, and the rest in its turn.
    pings(&mut h2, 250).await;
    let mut answered = 0;
    while answered < 250 {
        let frame = within(h2.frame()).await.unwrap();
        answered += u32::from(frame.kind == PING && frame.flags == 1);
    }
    assert!(count(&daemon, Limit::Slowed) > 0);
    // Those of another address are not concerned.
    let slowed = count(&daemon, Limit::Slowed);
    let mut other = H2::on(connect(&daemon, address(2)).await, 1000).await;
    pings(&mut other, 50).await;
    let stream = within(other.ask("GET", "/", &[])).await;
    while within(other.frame()).await.is_none_or(|frame| frame.stream != stream) {}
    assert_eq!(count(&daemon, Limit::Slowed), slowed);
}

// Requests that were refused, or got a file, once cost their address nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_refused_or_get_a_file_count_as_messages() {
    let daemon = daemon(|limits| limits.messages = 10).await;
    let kinds = [
        ("GET", "/nothing", "", 404),
        ("POST", "/v1/tickets", "", 200),
        ("GET", "/weir.js", "", 200),
        ("PUT", "/v1/topics/a", "", 405),
        ("POST", "/v1/topics/$weir/a", "", 403),
        ("GET", "/v1/topics/a", "https://evil.example", 403),
        ("OPTIONS", "/v1/topics/a", "https://evil.example", 403),
    ];
    let floods =
        kinds.into_iter().zip(1..).map(async |((method, target, origin, status), from)| {
            let begun = Instant::now();
            for _ in 0..30 {
                let mut request = ask(daemon.http_addr().unwrap(), method, target);
                if !origin.is_empty() {
                    request = request.header("origin", origin);
                }
                let mut connection = request.on(connect(&daemon, address(from)).await).await;
                assert_eq!(within(connection.head()).await.0, status, "{method} {target}");
            }
            // Three seconds' worth.
            assert!(begun.elapsed() > Duration::from_millis(1700), "{method} {target}");
        });
    futures_util::future::join_all(floods).await;
    assert_eq!(count(&daemon, Limit::RateLimited), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_count_as_1_kib_at_least_and_files_as_their_bytes() {
    let daemon = daemon(|limits| limits.replay = 16 << 10).await;
    for (from, target) in [(1, "/nothing"), (2, "/weir.js")] {
        let waited = count(&daemon, Limit::Replay);
        let begun = Instant::now();
        // 48 KiB of refusals are three seconds' worth, and the file has 28.
        let requests = if from == 1 { 48 } else { 2 };
        for _ in 0..requests {
            request(&daemon, address(from), "GET", target, Vec::new()).await;
        }
        assert!(count(&daemon, Limit::Replay) > waited, "{target}");
        assert!(begun.elapsed() > Duration::from_millis(700), "{target}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_counts_once() {
    let daemon = daemon(|limits| {
        limits.messages = 200;
        limits.replay = 100 << 10;
    })
    .await;
    // Publications cost no answer.
    for n in 0..150 {
        let post = request(&daemon, address(1), "POST", "/v1/topics/a", vec![n; 10]);
        assert_eq!(post.await.0, 200);
    }
    for _ in 0..90 {
        let get = request(&daemon, address(2), "GET", "/v1/topics/a", Vec::new());
        assert_eq!(get.await.0, 200);
    }
    assert_eq!((count(&daemon, Limit::Slowed), count(&daemon, Limit::Replay)), (0, 0));
}

// A body that nobody needs was once discarded as fast as the network brought it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_bodies_count_as_bytes() {
    let daemon = daemon(|limits| limits.bytes = 16 * MIB as u64).await;
    let begun = Instant::now();
    // 48 MiB, three seconds' worth.
    let refused = (0..6)
        .map(|_| request(&daemon, address(1), "POST", "/v1/topics/$weir/a", vec![0; 8 * MIB]));
    let statuses = within(futures_util::future::join_all(refused)).await;
    assert!(statuses.iter().all(|(status, _)| *status == 403));
    assert!(begun.elapsed() > Duration::from_millis(1700), "{:?}", begun.elapsed());
    assert!(count(&daemon, Limit::Slowed) > 0);
}

// Node widens its windows after each 32 KiB. These frames once counted as messages, so that a low rate
// stalled and cut an honest download.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_widens_its_window_as_it_reads_is_not_slowed() {
    let daemon = daemon(|limits| limits.messages = 100).await;
    daemon.publish("large", vec![7; 16 * MIB]).unwrap();
    let mut h2 = H2::on(connect(&daemon, address(1)).await, 64 << 10).await;
    let stream = within(h2.ask("GET", "/v1/topics/large", &[])).await;
    let (mut received, mut unread) = (0, 0);
    while received < 16 * MIB {
        let frame = within(h2.frame()).await.unwrap();
        if frame.kind != DATA {
            continue;
        }
        received += frame.payload.len();
        unread += frame.payload.len();
        if unread >= 16 << 10 {
            h2.widen(0, unread as u32).await;
            h2.widen(stream, unread as u32).await;
            unread = 0;
        }
    }
    assert_eq!((count(&daemon, Limit::Slowed), count(&daemon, Limit::RateLimited)), (0, 0));
    // A flood of them that follows no data counts.
    for _ in 0..1400 {
        within(h2.widen(0, 1)).await;
    }
    within(h2.send(PING, 0, 0, &[0; 8])).await;
    while within(h2.frame()).await.is_some_and(|frame| frame.kind != PING) {}
    assert!(count(&daemon, Limit::Slowed) > 0);
}
