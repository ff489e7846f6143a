use super::*;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(10);

/// Answers one request with these bytes, and returns it. `open` leaves the connection open.
async fn server(answer: Vec<u8>, open: bool) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let mut length = 0;
        while !request[..length].windows(4).any(|part| part == b"\r\n\r\n") {
            length += tcp.read(&mut request[length..]).await.unwrap();
        }
        request.truncate(length);
        // A client that has enough closes.
        let _ = tcp.write_all(&answer).await;
        if open {
            let _ = tcp.read(&mut [0; 1]).await;
        }
        String::from_utf8(request).unwrap()
    });
    (address, served)
}

fn fetcher(address: SocketAddr) -> Fetcher {
    Fetcher::new(&Remote::new(format!("http://{address}/a?b=c"))).unwrap()
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn an_answer_has_a_status_a_body_and_an_age() {
    let (address, served) =
        server(answer("200 OK\r\nCache-Control: public, max-age=90", b"{}"), true).await;
    let got = fetcher(address).get(DEADLINE, 2).await.unwrap();
    assert_eq!((got.status, got.max_age), (200, Some(Duration::from_secs(90))));
    assert_eq!(got.body, "{}");
    let request = served.await.unwrap().to_ascii_lowercase();
    assert!(request.starts_with("get /a?b=c http/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nhost: {address}\r\n")), "{request}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = elsewhere.local_addr().unwrap();
    let (address, _served) =
        server(answer(&format!("302 Found\r\nLocation: http://{to}/"), b""), false).await;
    let got = fetcher(address).post("{}".into(), DEADLINE, 100).await.unwrap();
    assert_eq!((got.status, got.max_age), (302, None));
    let asked = timeout(Duration::from_millis(50), elsewhere.accept()).await;
    assert!(asked.is_err(), "it was followed");
}

#[tokio::test]
async fn an_answer_is_bounded() {
    let body = vec![b'x'; 101];
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        65\r\n"
        .iter()
        .chain(&body)
        .chain(b"\r\n0\r\n\r\n")
        .copied()
        .collect();
    let until_the_end = [b"HTTP/1.1 200 OK\r\n\r\n", &body[..]].concat();
    for bytes in [answer("200 OK", &body), chunked, until_the_end] {
        let (address, _served) = server(bytes, false).await;
        let refused = fetcher(address).get(DEADLINE, 100).await.unwrap_err();
        assert!(matches!(refused, FetchError::TooLarge(100)), "{refused}");
    }
    // So is its head.
    let long = format!("200 OK\r\nX: {}", "x".repeat(1 << 20));
    let (address, _served) = server(answer(&long, b""), false).await;
    let refused = fetcher(address).get(DEADLINE, 100).await.unwrap_err();
    assert!(matches!(refused, FetchError::Exchange(_) | FetchError::Closed), "{refused}");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_none() {
    for bytes in [
        &b""[..],
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"SSH-2.0-x\r\n",
    ] {
        let (address, _served) = server(bytes.to_vec(), false).await;
        let refused = fetcher(address).get(DEADLINE, 100).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = fetcher(nobody).get(DEADLINE, 100).await.unwrap_err();
    assert!(matches!(refused, FetchError::Connect(_)), "{refused}");
}

#[tokio::test]
async fn an_answer_in_parts_has_one_deadline() {
    let brief = Duration::from_millis(50);
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"] {
        let (address, _served) = server(bytes.to_vec(), true).await;
        let refused = fetcher(address).get(brief, 100).await.unwrap_err();
        assert!(matches!(refused, FetchError::Timeout(_)), "{refused}");
    }
}

#[test]
fn what_is_secret_goes_to_this_machine_or_over_tls() {
    for url in [
        "https://id.example/keys",
        "https://id.example",
        "https://[2001:db8::1]:8443/keys?x=y",
        "http://127.0.0.1:9000/weir",
        "http://127.9.9.9/",
        "http://[::1]:9000",
        "http://localhost:9000/weir",
    ] {
        check(url).unwrap();
    }
    for url in [
        "",
        "id.example",
        "/etc/keys.json",
        "ftp://id.example/",
        "http://id.example/",
        "http://10.0.0.1/",
        "http://localhost.example/",
        "http://127.0.0.1.example/",
        "http://127.0.0.1@id.example/",
        "https://user:password@id.example/",
        "https://id.example/#x",
        "https://id.example:0/",
        "https://id.example:99999/",
        "https://id.example:/",
        "https://",
        "https://a b/",
    ] {
        check(url).unwrap_err();
    }
}

#[test]
fn the_age_of_an_answer() {
    let age = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(value).unwrap());
        }
        max_age(&headers).map(|age| age.as_secs())
    };
    assert_eq!(age(&[]), None);
    assert_eq!(age(&["public"]), None);
    assert_eq!(age(&["public, max-age=60"]), Some(60));
    assert_eq!(age(&["Max-Age=\"60\""]), Some(60));
    assert_eq!(age(&["public", "max-age = 5"]), Some(5));
    assert_eq!(age(&["max-age=60, no-store"]), Some(0));
    assert_eq!(age(&["max-age=-1"]), Some(0));
    assert_eq!(age(&["max-age=99999999999"]), Some(0));
}
