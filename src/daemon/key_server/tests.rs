//! With a clock that the tests move.

use super::*;
use crate::access::gate::Access;
use crate::access::{AccessRules, Algorithm, Credentials, Identity, Rights, SigningKey};
use crate::net::now;
use crate::wire::{Code, Refusal};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::advance;

type Script = Arc<Mutex<Result<(String, Option<Duration>), u16>>>;

/// Answers what the script says, and counts.
#[derive(Clone)]
struct Scripted {
    script: Script,
    asked: Arc<AtomicUsize>,
    takes: Duration,
    at_once: Arc<AtomicUsize>,
}

impl Source for Scripted {
    async fn get(&self) -> Result<Answer, FetchError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!(self.at_once.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
        sleep(self.takes).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        match self.script.lock().unwrap().clone() {
            Ok((body, max_age)) => Ok(Answer { status: 200, max_age, body: body.into() }),
            Err(0) => Err(FetchError::Closed),
            Err(status) => Ok(Answer { status, max_age: None, body: Bytes::new() }),
        }
    }
}

struct World {
    scripted: Scripted,
    access: Arc<Access>,
    server: Arc<KeyServer<Scripted>>,
}

fn key(id: &str) -> SigningKey {
    SigningKey::generate(Algorithm::EdDsa, Some(id)).unwrap()
}

fn token(key: &SigningKey) -> String {
    let ada = Identity::named("ada", Rights::nothing()).unwrap();
    key.sign(&ada.with_expires(now() + 7 * 86_400_000_000), None, None, now()).unwrap()
}

impl World {
    fn new(script: Result<(String, Option<Duration>), u16>) -> Self {
        let scripted = Scripted {
            script: Arc::new(Mutex::new(script)),
            asked: Arc::default(),
            takes: Duration::from_millis(100),
            at_once: Arc::default(),
        };
        let url = "https://id.example/keys";
        let server = Arc::new(KeyServer::new(scripted.clone(), url, Expectations::default()));
        let access = Arc::new(Access::new(AccessRules::default().key_source(server.clone())));
        let setting = access.clone();
        tokio::spawn(server.clone().watch(move |verifier| setting.rules().keyring().set(verifier)));
        Self { scripted, access, server }
    }

    fn publishing(key: &SigningKey) -> Self {
        Self::new(Ok((key.public_jwks().unwrap(), None)))
    }

    fn script(&self, script: Result<(String, Option<Duration>), u16>) {
        *self.scripted.script.lock().unwrap() = script;
    }

    fn asked(&self) -> usize {
        self.scripted.asked.load(Ordering::SeqCst)
    }

    async fn show(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        let from = Credentials::from_address([192, 0, 2, 1].into());
        self.access.rules().identify(from.with_token(Some(token)), now()).await
    }

    async fn code(&self, token: &str) -> Option<Code> {
        self.show(token).await.err().map(|refusal| refusal.code)
    }
}

/// Lets a time pass in steps, so that what is due is done in order.
async fn pass(time: Duration) {
    sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_token_waits_for_the_first_fetch() {
    let one = key("1");
    let world = World::publishing(&one);
    assert_eq!(world.code(&token(&one)).await, None);
    assert_eq!(world.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn until_keys_were_fetched_a_token_may_be_shown_again() {
    let one = key("1");
    let world = World::new(Err(0));
    assert_eq!(world.code(&token(&one)).await, Some(Code::OVERLOADED));
    for status in [500, 404, 302, 204] {
        world.script(Err(status));
        pass(Duration::from_secs(61)).await;
        assert_eq!(world.code(&token(&one)).await, Some(Code::OVERLOADED), "{status}");
    }
    world.script(Ok(("{\"keys\": []}".into(), None)));
    pass(Duration::from_secs(61)).await;
    assert_eq!(world.code(&token(&one)).await, Some(Code::OVERLOADED));
    world.script(Ok((one.public_jwks().unwrap(), None)));
    pass(Duration::from_secs(61)).await;
    assert_eq!(world.code(&token(&one)).await, None);
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_at_growing_intervals() {
    let world = World::new(Err(0));
    pass(Duration::from_secs(600)).await;
    // After 1, 2, 4, 8, 16, 32 and then 60 s.
    let asked = world.asked();
    assert!((14..=16).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_at_the_interval_that_the_server_names() {
    let one = key("1");
    let jwks = one.public_jwks().unwrap();
    for (max_age, expected) in [
        (None, 600),
        (Some(0), 60),
        (Some(300), 300),
        (Some(86_400), 86_400),
        (Some(10_000_000), 86_400),
    ] {
        let world = World::new(Ok((jwks.clone(), max_age.map(Duration::from_secs))));
        pass(Duration::from_secs(expected)).await;
        assert_eq!(world.asked(), 1, "{max_age:?}");
        pass(Duration::from_secs(1)).await;
        assert_eq!(world.asked(), 2, "{max_age:?}");
        assert_eq!(world.access.generation(), 1, "the same keys are no change");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_new_key_has_the_keys_fetched() {
    let (one, two) = (key("1"), key("2"));
    let world = World::publishing(&one);
    assert_eq!(world.code(&token(&one)).await, None);
    world.script(Ok((two.public_jwks().unwrap(), None)));
    assert_eq!(world.code(&token(&one)).await, None, "nobody knows yet");
    assert_eq!(world.code(&token(&two)).await, None);
    assert_eq!(world.code(&token(&one)).await, Some(Code::UNAUTHORIZED), "it was removed");
    assert_eq!((world.asked(), world.access.generation()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn invented_keys_cause_two_fetches_a_minute() {
    let one = key("1");
    let world = World::publishing(&one);
    world.show(&token(&one)).await.unwrap();
    let strangers: Vec<_> = (0..50).map(|n| token(&key(&format!("no {n}")))).collect();
    let before = world.asked();
    for second in 0..120 {
        for stranger in &strangers {
            let refused = world.show(stranger);
            assert_eq!(refused.await.unwrap_err().code, Code::UNAUTHORIZED, "{second}");
        }
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(world.asked() - before, 4, "in two minutes");
    assert_eq!(world.code(&token(&one)).await, None);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_wait_wait_for_one_fetch() {
    let (one, two) = (key("1"), key("2"));
    let world = Arc::new(World::publishing(&one));
    world.show(&token(&one)).await.unwrap();
    world.script(Ok((two.public_jwks().unwrap(), None)));
    let shown = token(&two);
    let all: Vec<_> = (0..20)
        .map(|_| {
            let (world, shown) = (world.clone(), shown.clone());
            tokio::spawn(async move { world.code(&shown).await })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap(), None);
    }
    assert_eq!(world.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_stay() {
    let one = key("1");
    let world = World::publishing(&one);
    world.show(&token(&one)).await.unwrap();
    let secret = SigningKey::generate(Algorithm::Hs256, Some("s")).unwrap();
    for script in [
        Err(0),
        Err(503),
        Ok(("<html>".to_owned(), None)),
        Ok(("{\"keys\": []}".to_owned(), None)),
        // Everybody could sign with a secret that is published.
        Ok((format!("{{\"keys\": [{}]}}", secret.private_jwk().unwrap()), None)),
    ] {
        world.script(script.clone());
        pass(Duration::from_secs(700)).await;
        assert_eq!(world.code(&token(&one)).await, None, "{script:?}");
        assert_eq!(world.code(&token(&secret)).await, Some(Code::UNAUTHORIZED), "{script:?}");
        assert!(world.server.reload().await.is_err(), "{script:?}");
    }
    assert_eq!(world.access.generation(), 1);
    world.script(Ok((key("2").public_jwks().unwrap(), None)));
    world.server.reload().await.unwrap();
    assert_eq!(world.code(&token(&one)).await, Some(Code::UNAUTHORIZED));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_hangs_delays_nobody_who_has_a_key() {
    let one = key("1");
    let world = World::publishing(&one);
    world.show(&token(&one)).await.unwrap();
    let stranger = token(&key("2"));
    let server = world.server.clone();
    let waiting = tokio::spawn(async move { server.fetch().await });
    tokio::task::yield_now().await;
    let begun = Instant::now();
    assert_eq!(world.code(&token(&one)).await, None);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    advance(Duration::from_millis(200)).await;
    waiting.await.unwrap();
    assert_eq!(world.code(&stranger).await, Some(Code::UNAUTHORIZED));
}
