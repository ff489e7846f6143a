//! The differences of two configurations, and whether a running daemon can apply them.

use super::Config;

/// Keys whose values differ between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Differences {
    /// Those that a running daemon can apply.
    pub applied: Vec<&'static str>,
    /// Those that need a restart.
    pub restart: Vec<&'static str>,
}

/// The moment from which on a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Restart,
}

macro_rules! keys {
    ($($when:ident { $($key:literal $field:ident $(.$more:ident)*;)* })*) => {
        /// Every key, and whether a running daemon can apply it.
        #[cfg(test)]
        pub(super) const KEYS: &[(&str, bool)] =
            &[$($(($key, matches!(When::$when, When::Now))),*),*];

        fn compare(old: &Config, new: &Config, found: &mut Differences) {
            $($(if old.$field$(.$more)* != new.$field$(.$more)* {
                match When::$when {
                    When::Now => found.applied.push($key),
                    When::Restart => found.restart.push($key),
                }
            })*)*
        }
    };
}

keys! {
    Now {
        "drain" drain;
        "http.origins" http.origins;
        "http.names" http.names;
        "access.keys" access.keys;
        "access.authorize" access.authorize;
        "access.timeout" access.timeout;
        "access.authorities" access.authorities;
        "access.audience" access.audience;
        "access.issuer" access.issuer;
        "access.leeway" access.leeway;
        "access.public" access.public;
        "access.certificates" access.certificates;
        "limits.sessions" limits.sessions;
        "limits.sessions_per_address" limits.sessions_per_address;
        "limits.sessions_per_identity" limits.sessions_per_identity;
        "limits.connections_per_address" limits.connections_per_address;
        "limits.handshakes_per_address" limits.handshakes_per_address;
        "limits.failures_per_address" limits.failures_per_address;
        "limits.messages" limits.messages;
        "limits.bytes" limits.bytes;
        "limits.replay" limits.replay;
        "limits.buffers" limits.buffers;
        "limits.exempt" limits.exempt;
        "topics" topics;
        "log.level" log.level;
        "log.qlog" log.qlog;
    }
    Restart {
        "listen" listen;
        "http.listen" http.listen;
        "ops.listen" ops.listen;
        "tls.certificate" tls.certificate;
        "tls.key" tls.key;
        "tls.check" tls.check;
        "tls.client_authorities" tls.client_authorities;
        "tls.acme" tls.acme;
        "cache.bytes" cache.bytes;
        "journal.kind" journal.kind;
        "journal.sync" journal.sync;
        "journal.bytes" journal.bytes;
        "journal.on_failure" journal.on_failure;
        "journal.nats" journal.nats;
        "journal.credentials" journal.credentials;
        "journal.authority" journal.authority;
        "journal.stream" journal.stream;
        "journal.replicas" journal.replicas;
        "journal.storage" journal.storage;
        "journal.age" journal.age;
        "limits.payload" limits.payload;
        "limits.topics" limits.topics;
        "limits.subscriptions" limits.subscriptions;
        "limits.producers" limits.producers;
        "limits.window" limits.window;
        "log.format" log.format;
        "log.otlp" log.otlp;
        "log.otlp_ratio" log.otlp_ratio;
    }
}

impl Config {
    /// Returns what differs from the configuration that a daemon runs with.
    #[must_use]
    pub fn differences(&self, running: &Self) -> Differences {
        let mut found = Differences::default();
        compare(running, self, &mut found);
        found
    }

    /// Takes the values that need a restart from the configuration that a daemon runs with, so that the
    /// next comparison names them again.
    #[must_use]
    pub fn applied_to(mut self, running: &Self) -> Self {
        self.listen = running.listen;
        self.http.listen = running.http.listen;
        self.ops.clone_from(&running.ops);
        self.tls.clone_from(&running.tls);
        self.cache.clone_from(&running.cache);
        self.journal.clone_from(&running.journal);
        self.limits.payload = running.limits.payload;
        self.limits.topics = running.limits.topics;
        self.limits.subscriptions = running.limits.subscriptions;
        self.limits.producers = running.limits.producers;
        self.limits.window = running.limits.window;
        self.log.format = running.log.format;
        self.log.otlp.clone_from(&running.log.otlp);
        self.log.otlp_ratio = running.log.otlp_ratio;
        self
    }
}
