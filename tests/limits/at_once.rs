//! Many at once over HTTP: requests of one address, and heads that become no request.

use crate::common::within;
use crate::h2::{H2, HEADERS, PING, RST_STREAM};
use crate::over_http::{connect, request};
use crate::{address, count, daemon};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use weir::daemon::Limit;

// Of all requests that came while an address had 10 s of debt, each waited for these 10 s and was
// accepted: 171 a second in place of one. And publications above the rate were never refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publications_at_once_keep_the_rate_and_are_refused_after_10_s() {
    let daemon = daemon(|limits| limits.messages = 5).await;
    let begun = Instant::now();
    let publish = async || {
        let (mut accepted, mut refused) = (0, 0);
        while begun.elapsed() < Duration::from_secs(12) {
            match request(&daemon, address(1), "POST", "/v1/topics/a", vec![7]).await {
                (200, _) => accepted += 1,
                (429, problem) => {
                    assert!(String::from_utf8(problem).unwrap().contains("rate_limited"));
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        (accepted, refused)
    };
    let all = futures_util::future::join_all((0..150).map(|_| publish())).await;
    let seconds = begun.elapsed().as_secs() + 1;
    let accepted: u64 = all.iter().map(|(accepted, _)| accepted).sum();
    let refused: u64 = all.iter().map(|(_, refused)| refused).sum();
    assert!(accepted <= 5 * (seconds + 1), "{accepted} in {seconds} s");
    assert!(accepted >= 5 * 8, "{accepted} in {seconds} s");
    // Those that waited for 10 s in vain, and one that was told.
    assert!(refused > 50, "{refused}");
    assert!(count(&daemon, Limit::RateLimited) >= refused);
}

// The library answers them with 431, 56,000 a second on one connection, and no limit counted them.
#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_count_as_messages() {
    let daemon = daemon(|limits| limits.messages = 100).await;
    let mut h2 = H2::on(connect(&daemon, address(1)).await, 1000).await;
    // A field of 3,900 bytes that enters the table (RFC 7541, section 6.2.1).
    let mut head = vec![0x40, 1, b'x', 127];
    let mut rest = 3900_usize - 127;
    while rest >= 128 {
        head.push(((rest % 128) | 128) as u8);
        rest /= 128;
    }
    head.push(rest as u8);
    head.extend([b'v'; 3900]);
    // Fields that are there already: GET, http, the path, and that one.
    let pseudo = [0x82, 0x86, 0x84];
    let begun = Instant::now();
    for n in 0..600_u32 {
        let fields =
            if n == 0 { [&pseudo[..], &head].concat() } else { [&pseudo[..], &[0xbe; 6]].concat() };
        within(h2.send(HEADERS, 5, 2 * n + 1, &fields)).await;
    }
    // With 431, or refused if a hundred of them are open.
    let mut answered = HashSet::new();
    while answered.len() < 600 {
        let frame = within(h2.frame()).await.unwrap();
        if matches!(frame.kind, HEADERS | RST_STREAM) {
            answered.insert(frame.stream);
        }
    }
    // The connection is read again when they are paid for: 200 may be on their way, and 100 are free.
    within(h2.send(PING, 0, 0, &[0; 8])).await;
    while within(h2.frame()).await.unwrap().kind != PING {}
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert!(count(&daemon, Limit::Slowed) > 0);
}
