//! The fuzz targets: functions that take any bytes, and panic if a rule is broken.
//!
//! Each is beside what it tries, in the file `fuzz` of its room. `tests/fuzz/run` lets libFuzzer
//! search for inputs; the tests here repeat those that are kept in `tests/fuzz/corpus`.
//! `docs/security.md` has the table of what each one promises.
#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "targets for a fuzzer, not a part of the daemon"
)]

pub(crate) mod script;

pub(crate) use script::Script;

/// A target's name, and the target.
pub type Target = (&'static str, fn(&[u8]));

macro_rules! targets {
    ($($(#[$when:meta])* $name:ident => $target:path,)*) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[$($(#[$when])* (stringify!($name), $target),)*];

        #[cfg(test)]
        mod corpora {
            $($(#[$when])* #[test]
            fn $name() {
                super::tests::replay(stringify!($name), $target);
            })*
        }
    };
}

targets! {
    client_frames => crate::wire::fuzz::client_frames,
    daemon_frames => crate::wire::fuzz::daemon_frames,
    frame_reader => crate::wire::fuzz::frame_reader,
    names => crate::wire::fuzz::names,
    receiver => crate::wire::fuzz::receiver,
    engine => crate::engine::tests::fuzz::operations,
    sessions => crate::engine::tests::fuzz::sessions,
    journal => crate::journal::tests::fuzz::recovery,
    #[cfg(feature = "daemon")]
    tokens => crate::access::fuzz::tokens,
    #[cfg(feature = "daemon")]
    keys => crate::access::fuzz::keys,
    #[cfg(feature = "daemon")]
    certificates => crate::tls::fuzz::certificates,
    #[cfg(feature = "daemon")]
    websocket => crate::net::websocket::fuzz::messages,
    #[cfg(feature = "daemon")]
    http => crate::http::fuzz::requests,
    #[cfg(feature = "daemon")]
    http_texts => crate::http::fuzz::texts,
    #[cfg(feature = "client")]
    client => crate::client::fuzz::stream,
    #[cfg(feature = "cli")]
    config => crate::config::fuzz::file,
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    // Names the input if the target panics.
    struct Named(PathBuf);

    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input is {}", self.0.display());
            }
        }
    }

    pub(super) fn replay(name: &str, target: fn(&[u8])) {
        let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        if !fuzz.exists() {
            // A published package does not have it.
            return;
        }
        let corpus = fuzz.join("corpus").join(name);
        let files = std::fs::read_dir(&corpus).unwrap_or_else(|_| panic!("{}", corpus.display()));
        let mut inputs = 0;
        for file in files {
            let named = Named(file.unwrap().path());
            target(&std::fs::read(&named.0).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", corpus.display());
        // An empty input and one of zeros are scripts as well.
        target(&[]);
        target(&[0; 100]);
    }

    #[test]
    fn each_corpus_has_its_target() {
        let corpora = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        for corpus in std::fs::read_dir(corpora).into_iter().flatten() {
            let name = corpus.unwrap().file_name().into_string().unwrap();
            let known = super::TARGETS.iter().any(|(target, _)| *target == name);
            assert!(known || cfg!(not(feature = "cli")), "no target is named {name}");
        }
    }
}
