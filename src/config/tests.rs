//! The configuration and its errors.

use super::load::TOP;
use super::*;
use std::path::Path;

mod errors;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.toml");
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let loaded = Config::load(Some(&path), variables);
    loaded
        .map_err(|error| error.to_string().replace(&format!("{}/", directory.path().display()), ""))
}

#[test]
fn the_shipped_file_says_the_defaults() {
    assert_eq!(load(DEFAULT, &[]), Ok(Config::default()));
    assert_eq!(load("", &[]), Ok(Config::default()));
    // The file has every key.
    let keys = DEFAULT.lines().filter(|line| line.contains(" = ")).count();
    assert_eq!(keys, 66);
    let table: toml::Table = DEFAULT.parse().unwrap();
    // There are no rules for topics by default.
    let keys = table.keys().map(String::as_str).chain(["topics"]);
    assert_eq!(keys.collect::<Vec<_>>(), TOP);
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = load("[cache]\nbytes = \"64MiB\"", &[("WEIR_CACHE__BYTES", "1GiB")]).unwrap();
    assert_eq!(config.cache.bytes, ByteSize::gib(1));
    let others = [("OTHER", "x"), ("WEIR_PORT", "tcp://10.0.0.1:4433"), ("WEIR_CASHE__BYTES", "1")];
    let config = load("", &[&[("WEIR_LIMITS__TOPICS", "7")], &others[..]].concat()).unwrap();
    assert_eq!(config.limits.topics, 7);
    let origins = r#"["https://a.example", "http://b.example:3000"]"#;
    let variables = [
        ("WEIR_HTTP__ORIGINS", origins),
        ("WEIR_HTTP__LISTEN", "off"),
        ("WEIR_HTTP__NAMES", "[\"relay.example\"]"),
    ];
    let config = load("", &variables).unwrap();
    assert_eq!(config.http.origins, ["https://a.example", "http://b.example:3000"]);
    assert_eq!(config.http.listen, Plain(None));
    assert_eq!(config.http.names, ["relay.example"]);
}

#[test]
fn an_address_for_metrics_may_be_off_or_left_to_the_daemon() {
    let ops = |text, variables: &[_]| load(text, variables).unwrap().ops.listen;
    assert_eq!(ops("", &[]), None);
    let address = Some(Plain(Some("[::1]:9100".parse().unwrap())));
    assert_eq!(ops("[ops]\nlisten = \"[::1]:9100\"", &[]), address);
    assert_eq!(ops("", &[("WEIR_OPS__LISTEN", "off")]), Some(Plain(None)));
    let wrong = load("[ops]\nlisten = 9090", &[]).unwrap_err();
    assert!(wrong.starts_with("weir.toml:2:10: ops.listen: "), "{wrong}");
}

#[test]
fn certificates_come_from_files_or_an_authority() {
    use crate::daemon::{AcmeChallenge, AcmeDirectory, AcmeSettings, TlsSettings};
    let tls = |text: &str, variables: &[_]| load(text, variables).unwrap().tls.settings();
    assert_eq!(tls("", &[]), TlsSettings::self_signed());
    let files =
        "[tls]\ncertificate = \"/a.pem\"\nkey = \"/b.pem\"\nclient_authorities = \"/c.pem\"";
    let expected = TlsSettings::files("/a.pem", "/b.pem").with_client_authorities("/c.pem");
    assert_eq!(tls(files, &[]), expected);
    // The keys of the shipped file that are no defaults.
    let text = "tls.acme = { domains = [\"a.example\"], contact = \"me@a.example\" }";
    let acme = AcmeSettings::new(["a.example"]).with_contact("mailto:me@a.example");
    assert_eq!(tls(text, &[]), TlsSettings::acme(acme.clone()));
    let variables = [
        ("WEIR_TLS__ACME__DIRECTORY", "staging"),
        ("WEIR_TLS__ACME__CHALLENGE", "http-01"),
        ("WEIR_TLS__ACME__LISTEN", "[::]:80"),
        ("WEIR_TLS__ACME__AUTHORITIES", "/d.pem"),
    ];
    let acme = acme
        .with_directory(AcmeDirectory::Staging)
        .with_challenge(AcmeChallenge::Http01)
        .with_listen("[::]:80".parse::<SocketAddr>().unwrap())
        .with_authorities("/d.pem");
    assert_eq!(tls(text, &variables), TlsSettings::acme(acme));
}

#[test]
fn each_rule_closes_the_daemon() {
    assert!(load("", &[]).unwrap().access.is_open());
    for rule in [
        "keys = \"/k.json\"",
        "keys = \"https://id.example/keys\"\nauthorities = \"/a.pem\"\naudience = \"a\"",
        "authorize = \"http://localhost:9000/weir\"\ntimeout = \"500ms\"",
        "authorize = \"https://id.example/weir\"\nauthorities = \"/a.pem\"",
        "public.subscribe = [\"public/**\"]",
        "public = {}",
    ] {
        assert!(!load(&format!("[access]\n{rule}"), &[]).unwrap().access.is_open(), "{rule}");
    }
}

#[test]
fn topics_have_rules() {
    use crate::engine::{Keep, Public, TopicRule};
    let text = "[[topics]]\nfilter = \"a/**\"\nkeep = 10\nttl = \"30s\"\nrate = 5\npayload = \"4KiB\"\n\
                public = \"both\"\n[[topics]]\nfilter = \"b\"\nkeep = \"none\"";
    let rule = |filter: &str| TopicRule::new(filter.parse().unwrap());
    let first = rule("a/**")
        .with_keep(Keep::Newest(10.try_into().unwrap()))
        .with_ttl(Duration::from_secs(30))
        .with_rate(5.try_into().unwrap())
        .with_payload(4 << 10)
        .with_public(Public::Both);
    let second = rule("b").with_keep(Keep::None);
    assert_eq!(load(text, &[]).unwrap().topic_rules(), [first.clone(), second.clone()]);
    // The shipped example is a rule.
    let example = DEFAULT.split_once("# [[topics]]").unwrap().1.lines();
    let keys =
        example.filter_map(|line| line.strip_prefix("# ").filter(|line| line.contains(" = ")));
    let example = format!("[[topics]]\n{}", keys.collect::<Vec<_>>().join("\n"));
    assert_eq!(load(&example, &[]).unwrap().topics.len(), 1);
    let variables = [("WEIR_TOPICS", r#"[{ filter = "b", keep = "none" }]"#)];
    assert_eq!(load(text, &variables).unwrap().topic_rules(), [second]);
    for (keep, expected) in
        [("\"all\"", Keep::All), ("\"latest\"", Keep::LATEST), ("1", Keep::LATEST)]
    {
        let text = format!("topics = [{{ filter = \"b\", keep = {keep} }}]");
        assert_eq!(load(&text, &[]).unwrap().topic_rules(), [rule("b").with_keep(expected)]);
    }
}

// Returns the keys of the shipped file, with their sections. Those of examples are among them.
fn shipped_keys() -> Vec<String> {
    let (mut section, mut keys) = (String::new(), Vec::new());
    for line in DEFAULT.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let header = line.strip_prefix('[').filter(|_| line.ends_with(']') && !line.contains(' '));
        if let Some(header) = header {
            section = header.trim_matches(['[', ']']).to_owned();
        } else if let Some((name, _)) =
            line.split_once(" = ").filter(|(name, _)| !name.contains(' '))
        {
            let key = if section.is_empty() { name.into() } else { format!("{section}.{name}") };
            keys.push(key);
        }
    }
    keys
}

/// Words of the parser, and names of types, mean nothing to those who write a configuration.
#[test]
fn errors_are_in_plain_words() {
    const WORDS: [&str; 22] = [
        "struct", "enum", "variant", "option", "Option", "usize", "u8", "u16", "u32", "u64", "i64",
        "i128", "sequence", "map", "field", "parsable", "type", "value", "overflow", "integer",
        "else", "kind",
    ];
    let mut errors = 0;
    for key in shipped_keys() {
        for value in [
            "5",
            "-1",
            "1.5",
            "nan",
            "99999999999999999999",
            "\"x\"",
            "\"\"",
            "true",
            "[]",
            "[5]",
            "[[]]",
            "{}",
            "{ a = 1 }",
            "1979-05-27",
        ] {
            let text = match key.strip_prefix("topics.") {
                Some("filter") => format!("topics = [{{ filter = {value} }}]"),
                Some(name) => format!("topics = [{{ filter = \"a\", {name} = {value} }}]"),
                None => format!("{key} = {value}"),
            };
            let Err(error) = load(&text, &[]) else { continue };
            errors += 1;
            // Behind the place and the key.
            let reason = error.splitn(5, ':').last().unwrap();
            let words = reason.split(|c: char| !c.is_ascii_alphanumeric());
            let found = words.filter(|word| WORDS.contains(word)).collect::<Vec<_>>();
            assert!(found.is_empty() && !reason.contains("Config"), "{text}\n{error}\n{found:?}");
        }
    }
    assert!(errors > 400, "{errors}");
}

#[test]
fn every_key_of_the_shipped_file_is_applied_or_needs_a_restart() {
    let mut keys = shipped_keys();
    // These are compared as a whole.
    let whole = ["tls.acme", "access.public", "access.certificates", "topics"];
    for key in &mut keys {
        if let Some(whole) = whole.iter().find(|whole| key.starts_with(&format!("{whole}."))) {
            *key = (*whole).into();
        }
    }
    keys.sort();
    keys.dedup();
    let mut compared: Vec<_> = changes::KEYS.iter().map(|(key, _)| *key).collect();
    compared.sort_unstable();
    assert_eq!(keys, compared);
    // The shipped file says so, too: a comment ends with [restart], and holds for the keys below it.
    for (key, applied) in changes::KEYS.iter().filter(|(key, _)| !whole.contains(key)) {
        let name = key.rsplit('.').next().unwrap();
        let at =
            |line: &str| line.strip_prefix("# ").unwrap_or(line).starts_with(&format!("{name} = "));
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let text =
            DEFAULT.split_once(&format!("\n[{section}]\n")).map_or(DEFAULT, |(_, text)| text);
        let before: Vec<_> = text.lines().take_while(|line| !at(line)).collect();
        let paragraph = before.rsplit(|line| line.is_empty()).next().unwrap();
        let says = paragraph.iter().any(|line| line.ends_with("[restart]"));
        assert_eq!(says, !applied, "{key}");
    }
}

#[test]
fn differences_name_each_key_and_what_needs_a_restart_stays_different() {
    let text = "listen = \"[::]:1\"\ndrain = \"1s\"\n[http]\nlisten = \"off\"\norigins = [\"*\"]\nnames = [\"a\"]\n\
                [ops]\nlisten = \"off\"\n[tls]\ncheck = \"1s\"\nclient_authorities = \"/a\"\nacme.domains = [\"a.example\"]\n\
                [access]\nkeys = \"https://a.example/\"\ntimeout = \"1s\"\nauthorities = \"/a\"\naudience = \"a\"\n\
                issuer = \"a\"\nleeway = \"1s\"\npublic = {}\ncertificates = {}\n[cache]\nbytes = \"128MiB\"\n\
                [journal]\nkind = \"none\"\nsync = \"exit\"\nbytes = \"9GiB\"\non_failure = \"continue\"\n\
                credentials = \"/a\"\nauthority = \"/a\"\nstream = \"a\"\nreplicas = 1\nstorage = \"memory\"\nage = \"1s\"\n\
                [limits]\npayload = 1\nsessions = 1\nsessions_per_address = 1\nsessions_per_identity = 1\n\
                connections_per_address = 1\nhandshakes_per_address = 1\nfailures_per_address = 1\nmessages = 1\n\
                bytes = 0\nreplay = 0\nbuffers = 1\nexempt = []\ntopics = 1\nsubscriptions = 1\nproducers = 1\n\
                window = 64\n[log]\nlevel = \"off\"\nformat = \"json\"\nqlog = \"::1\"\notlp_ratio = 0\n[[topics]]\nfilter = \"a\"\npayload = 1\n";
    let (old, mut new) = (Config::default(), load(text, &[]).unwrap());
    // Not every build takes it.
    new.log.otlp = Some("http://127.0.0.1:4318".into());
    new.journal.nats = Some("nats://127.0.0.1:4222".into());
    let Differences { applied, restart } = new.differences(&old);
    let keys = |applies: bool| {
        let keys = changes::KEYS.iter().filter(move |(_, applied)| *applied == applies);
        // These exclude others.
        let keys = keys.map(|(key, _)| *key);
        keys.filter(|key| !["tls.certificate", "tls.key", "access.authorize"].contains(key))
    };
    assert_eq!(applied, keys(true).collect::<Vec<_>>());
    assert_eq!(restart, keys(false).collect::<Vec<_>>());
    let running = new.clone().applied_to(&old);
    assert_eq!(running.differences(&old).restart, [""; 0]);
    assert_eq!(new.differences(&running), Differences { applied: vec![], restart });
    assert_eq!(old.differences(&old), Differences::default());
}

#[test]
fn a_part_is_a_number_also_in_the_environment() {
    let part = |text: &str, environment: &[(&str, &str)]| {
        load(text, environment).unwrap().log.otlp_ratio.get().to_string()
    };
    assert_eq!(part("log.otlp_ratio = 0.25", &[]), "0.25");
    assert_eq!(part("log.otlp_ratio = 1", &[]), "1");
    assert_eq!(part("log.otlp_ratio = 1", &[("WEIR_LOG__OTLP_RATIO", "0.5")]), "0.5");
    assert_eq!(part("", &[("WEIR_LOG__OTLP_RATIO", "0")]), "0");
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_build_without_the_feature_refuses_a_collector() {
    let error = load("[log]\notlp = \"http://127.0.0.1:4318\"", &[]).unwrap_err();
    assert!(error.starts_with("weir.toml:2:8: log.otlp: "), "{error}");
    assert!(error.contains("built without the feature otel"), "{error}");
}

#[test]
fn a_log_in_jetstream_needs_servers() {
    let error = load("[journal]\nkind = \"jetstream\"", &[]).unwrap_err();
    if cfg!(feature = "jetstream") {
        assert!(error.starts_with("weir.toml:2:8: journal.kind: "), "{error}");
        assert!(error.contains("journal.nats = \"nats://host:4222\""), "{error}");
    } else {
        assert!(error.contains("built without the feature jetstream"), "{error}");
    }
    let error = load("[journal]\nnats = \"nats://127.0.0.1\"", &[]).unwrap_err();
    assert!(error.starts_with("weir.toml:2:8: journal.nats: "), "{error}");
}

#[cfg(feature = "jetstream")]
#[test]
fn the_environment_makes_a_daemon_one_of_several() {
    let environment = [
        ("WEIR_JOURNAL__KIND", "jetstream"),
        ("WEIR_JOURNAL__NATS", "nats://a:4222, nats://b:4222"),
    ];
    let config = load("[journal]\nstream = \"eu\"\nbytes = \"64MiB\"", &environment).unwrap();
    let options = config.journal.jetstream().unwrap();
    assert_eq!(options.servers, ["nats://a:4222", "nats://b:4222"]);
    assert_eq!((&*options.stream, options.bytes), ("eu", 64 << 20));
    assert!(config.journal.options().is_none());
}
