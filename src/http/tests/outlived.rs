//! A listener whose socket outlives the daemon.

use super::*;
use futures_util::FutureExt as _;
use std::pin::pin;
use tokio::net::TcpStream;

#[tokio::test]
async fn a_connection_without_a_request_is_waited_for_and_a_new_one_is_left_to_the_next_daemon() {
    let face = Face::new(Limits::default());
    face.publish("a", b"x");
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, kept) = (socket.local_addr().unwrap(), socket.try_clone().unwrap());
    let listener = Listener::plain(socket, &face.admission);
    let mut listener = listener.outlived(true);
    // Longer than any test.
    listener.times.fresh = Duration::from_secs(600);
    let routes = router(face.state.clone(), Router::new());
    let running = tokio::spawn(listener.run(routes, face.admission.stage()));
    let early = TcpStream::connect(address).await.unwrap();
    // It was accepted, because a later one is served.
    assert_eq!(within(ask(address, "GET", "/v1/topics/a").send()).await.status, 200);
    face.admission.drain(Duration::from_secs(60));
    // The listener has noticed it.
    within(face.until(|face| face.state.in_flight.count() == 1)).await;
    let mut drained = pin!(face.admission.drained());
    assert!(drained.as_mut().now_or_never().is_none());
    let late = TcpStream::connect(address).await.unwrap();
    let mut answer = ask(address, "GET", "/v1/topics/a").on(early).await;
    assert_eq!(within(answer.answer()).await.status, 200);
    within(drained).await;
    // Once the daemon stops, a request would be too late.
    face.admission.stop();
    within(running).await.unwrap().unwrap();
    assert_eq!(kept.accept().unwrap().1, late.local_addr().unwrap());
}

#[tokio::test]
async fn a_connection_without_a_request_is_not_waited_for_long() {
    let face = Face::new(Limits::default());
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener::plain(socket, &face.admission);
    let mut listener = listener.outlived(true);
    listener.times.fresh = Duration::from_millis(10);
    let routes = router(face.state.clone(), Router::new());
    tokio::spawn(listener.run(routes, face.admission.stage()));
    let _silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(within(ask(address, "GET", "/v1/topics/a").send()).await.status, 404);
    face.admission.drain(Duration::from_secs(60));
    within(face.admission.drained()).await;
}
