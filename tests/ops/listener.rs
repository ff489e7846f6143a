//! The listener: its address, and clients that take its places.

use super::ANY;
use super::common::{Served, stderr, weir, within};
use super::http::ask;
use std::net::TcpListener;
use std::time::Duration;
use tempfile::tempdir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use weir::Daemon;

#[tokio::test]
async fn a_program_has_no_listener_unless_it_asks_for_one() {
    let daemon = Daemon::builder().listen(ANY).spawn().await.unwrap();
    assert_eq!(daemon.ops_addr(), None);
    assert!(daemon.metrics().to_text().contains("\nweir_ready 1"));
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_only_if_it_was_chosen() {
    let taken = TcpListener::bind(ANY).unwrap();
    let address = taken.local_addr().unwrap();
    let error = Daemon::builder().listen(ANY).ops(address).spawn().await.unwrap_err().to_string();
    assert!(error.contains("TCP (ops)") && error.contains("--ops off"), "{error}");
    let daemon = Daemon::builder().listen(ANY).ops_if_free(address).spawn().await.unwrap();
    assert_eq!(daemon.ops_addr(), None);
}

#[test]
fn the_command_line_wins_over_the_environment_and_says_the_address() {
    let taken = TcpListener::bind(ANY).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let state = tempdir().unwrap();
    let environment = [("WEIR_OPS__LISTEN", &*address)];
    let served = Served::start(state.path(), &["--ops", "127.0.0.1:0"], &environment);
    assert!(served.ops.is_some_and(|ops| ops.port() > 0));
    drop(served);
    let served = Served::start(state.path(), &["--ops", "off"], &environment);
    assert_eq!(served.ops, None);
    drop(served);
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--http", "off"];
    let output = weir(state.path(), &arguments).envs(environment).output().unwrap();
    let log = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("TCP (ops) {address} is taken")), "{log}");
}

// Idle connections do not keep others out for long, whatever the limits of addresses are.
#[tokio::test]
async fn idle_connections_give_their_places_back() {
    let daemon = Daemon::builder().listen(ANY).ops(ANY).spawn().await.unwrap();
    let ops = daemon.ops_addr().unwrap();
    let mut idle = Vec::new();
    // As many as there are places.
    for _ in 0..64 {
        idle.push(TcpStream::connect(ops).await.unwrap());
    }
    // One more is accepted by the system, and closed by the daemon.
    let mut more = TcpStream::connect(ops).await.unwrap();
    let read = within(more.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    // Without a request they end after 10 s.
    let closed = within(idle[0].read(&mut [0; 1])).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    let answer = async {
        loop {
            // Those that began last may still have their places.
            if let Some(answer) = ask(ops, "GET", "/healthz").try_send().await {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(within(answer).await.status, 200);
}

#[tokio::test]
async fn a_connection_serves_one_scrape_after_the_other() {
    let daemon = Daemon::builder().listen(ANY).ops(ANY).spawn().await.unwrap();
    let mut stream = Some(TcpStream::connect(daemon.ops_addr().unwrap()).await.unwrap());
    for _ in 0..3 {
        let request = ask(daemon.ops_addr().unwrap(), "GET", "/metrics");
        let request = request.header("connection", "keep-alive");
        let mut connection = request.on(stream.take().unwrap()).await;
        let (status, headers) = within(connection.head()).await;
        assert_eq!(status, 200);
        let length = headers.iter().find(|(name, _)| name == "content-length").unwrap();
        within(connection.exactly(length.1.parse().unwrap())).await.unwrap();
        stream = Some(connection.stream);
    }
}
