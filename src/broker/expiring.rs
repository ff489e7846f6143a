//! The broker's work for topic rules that drop messages with time: the engine has no clock.

use super::clock::time_of_day;
use super::{Broker, Inner, Lock};
use crate::engine::TopicRules;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Interval at which messages are dropped. Nobody gets one whose time has passed, so that this decides
/// only how long its memory is in use.
const SWEEP: Duration = Duration::from_millis(250);

impl Inner {
    // Tells the engine the time, if its rules need it.
    pub(super) fn tell_time(&mut self) {
        if self.engine.needs_time() {
            self.engine.tell_time(time_of_day());
        }
    }
}

impl<L: Lock> Broker<L> {
    /// Replaces the topic rules of the engine.
    pub(crate) fn set_topic_rules(&self, rules: TopicRules) {
        self.with(|engine| engine.set_topic_rules(rules));
        self.timed.notify_one();
    }

    /// Drops messages whose time has come, in portions between which every task that is ready runs. It
    /// waits until a rule drops any, and returns when the engine has panicked.
    pub(crate) async fn expire_messages(&self) {
        loop {
            match self.inner.lock().map(|inner| inner.engine.needs_time()) {
                Some(true) => break,
                Some(false) => {}
                None => return,
            }
            self.timed.notified().await;
        }
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            while !self.has_failed() && self.with(|engine| engine.expire(time_of_day())) {
                tokio::task::yield_now().await;
            }
            if self.has_failed() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, Limits, Payload, Publication, TopicRule};
    use crate::wire::Digest;
    use std::sync::Arc;

    #[tokio::test]
    async fn rules_that_need_the_time_begin_the_work_when_they_replace_others() {
        let broker = Arc::new(Broker::new(Engine::new(Limits::default(), 1, [0; 32]), None));
        let working = broker.clone();
        tokio::spawn(async move { working.expire_messages().await });
        tokio::task::yield_now().await;
        let rule = TopicRule::new("a".parse().unwrap()).with_ttl(Duration::from_millis(1));
        broker.set_topic_rules(TopicRules::new([rule]).unwrap());
        let payload = bytes::Bytes::from(vec![7; 100_000]);
        let digest = Digest::of(&payload);
        let payload = Payload::from(payload);
        let stamp = time_of_day();
        let publication =
            Publication { topic: "a", payload: &payload, digest, stamp, origin: None };
        let before = broker.with(|engine| engine.bytes());
        broker.with(|engine| engine.publish(stamp, &publication)).unwrap();
        let dropped = async {
            while broker.with(|engine| engine.bytes()) > before + 50_000 {
                tokio::time::sleep(SWEEP).await;
            }
        };
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, dropped).await.expect("it has expired");
    }
}
