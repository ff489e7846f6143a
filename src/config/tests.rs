//! The configuration and its errors.

use super::load::TOP;
use super::*;
use std::path::Path;

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
    assert_eq!(keys, 59);
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

#[test]
fn errors_of_topics_name_file_line_column_and_key() {
    let topic = |rest: &str| format!("[[topics]]\nfilter = \"a\"\n[[topics]]\n{rest}");
    for (rest, expected) in [
        ("keep = 1", "weir.toml:3:1: topics[1]: the key filter is missing"),
        ("filter = \"a*\"", "weir.toml:4:10: topics[1].filter: \"a*\" is not a filter: "),
        ("filter = \"$weir/**\"", "weir.toml:4:10: topics[1].filter: topics below `$weir`"),
        ("filter = \"b\"\nkeep = 0", "weir.toml:5:8: topics[1].keep: 0 is neither a number of"),
        ("filter = \"b\"\nkeep = \"some\"", "weir.toml:5:8: topics[1].keep: \"some\" is neither"),
        (
            "filter = \"b\"\nkeep = 1.5",
            "weir.toml:5:8: topics[1].keep: expected a number of messages",
        ),
        ("filter = \"b\"\nttl = \"0s\"", "weir.toml:5:7: topics[1].ttl: a ttl is from 1ms to"),
        ("filter = \"b\"\nttl = 5", "weir.toml:5:7: topics[1].ttl: it has to be text, and is 5"),
        ("filter = \"b\"\nrate = 0", "weir.toml:5:8: topics[1].rate: it has to be a whole"),
        ("filter = \"b\"\npayload = 0", "weir.toml:5:11: topics[1].payload: a payload of 0 bytes"),
        (
            "filter = \"b\"\npayload = \"17MiB\"",
            "weir.toml:5:11: topics[1].payload: 17.0 MiB is above limits.payload, which is 16.0 MiB",
        ),
        ("filter = \"b\"\npublic = true", "weir.toml:5:10: topics[1].public: "),
        ("filter = \"b\"\nkept = 1", "weir.toml:5:1: topics[1].kept: unknown key: the keys"),
        (
            "filter = \"*\"\npublic = \"publish\"",
            "weir.toml:5:10: topics[1].public: it makes topics public for which the earlier rule \"a\"",
        ),
    ] {
        let error = load(&topic(rest), &[]).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let many = "[[topics]]\nfilter = \"a\"\n".repeat(65);
    let error = load(&many, &[]).unwrap_err();
    assert_eq!(error, "weir.toml:130:10: topics[64].filter: there are more than 64 rules");
    let variables = [("WEIR_TOPICS", r#"[{ filter = "b", ttl = "0s" }]"#)];
    let error = load("", &variables).unwrap_err();
    assert_eq!(
        error,
        "environment variable WEIR_TOPICS: topics[0].ttl: a ttl is from 1ms to 100 years"
    );
    // The list of the file is not used then.
    let file = "[[topics]]\nfilter = \"a\"\nttl = \"1s\"";
    assert_eq!(load(file, &variables).unwrap_err(), error);
    let variables = [("WEIR_TOPICS", "[{}]"), ("WEIR_TOPICS__TTL", "1s")];
    for variable in variables {
        let error = load("", &[variable]).unwrap_err();
        assert!(error.starts_with(&format!("environment variable {}: ", variable.0)), "{error}");
    }
}

#[test]
fn errors_name_file_line_column_and_key() {
    for (text, variables, expected) in [
        (
            "[cache]\nbyts = 1",
            &[][..],
            "weir.toml:2:1: cache.byts: unknown key: the keys here are bytes",
        ),
        (
            "\n[limits]\ntopics = \"x\"",
            &[],
            "weir.toml:3:10: limits.topics: it has to be a whole number from 0 on, and is \"x\"",
        ),
        ("listen = \"nowhere\"", &[], "weir.toml:1:10: listen: it is not an address such as"),
        ("cache = [", &[], "weir.toml:1:10: "),
        ("[cache]\nbytes = 1\nbytes = 2", &[], "weir.toml:3:1: cache.bytes: duplicate key"),
        ("[cache]\nbytes =", &[], "weir.toml:2:8: cache.bytes: "),
        ("[http]\nlisten = \"abc", &[], "weir.toml:2:14: http.listen: "),
        ("", &[("WEIR_CACHE__BYTS", "1")], "environment variable WEIR_CACHE__BYTS: "),
        ("", &[("WEIR_CACHE", "1")], "environment variable WEIR_CACHE: "),
        ("", &[("WEIR_LISTEN", "x")], "environment variable WEIR_LISTEN: "),
        ("", &[("WEIR_CACHE__BYTES", "much")], "environment variable WEIR_CACHE__BYTES: "),
        (
            "[cache]\nbytes = \"32MiB\"",
            &[],
            "weir.toml:2:9: cache.bytes: a limits.payload of 16.0 MiB",
        ),
        (
            "[cache]\nbytes = \"32MiB\"\n[limits]\npayload = \"9MiB\"",
            &[],
            "weir.toml:4:11: limits.payload: a limits.payload of 9.0 MiB is not between",
        ),
        (
            "[cache]\nbytes = \"16GiB\"\n[limits]\npayload = \"2GiB\"",
            &[],
            "weir.toml:4:11: limits.payload: 2.0 GiB is above 1GiB",
        ),
        (
            "[journal]\nbytes = \"1040MiB\"",
            &[],
            "weir.toml:2:9: journal.bytes: 1040MiB is below four times cache.bytes and 32MiB, 1056MiB",
        ),
        ("[http]\nlisten = \"8080\"", &[], "weir.toml:2:10: http.listen: \"8080\" is neither"),
        (
            "[http]\norigins = [\n\"evil\"]",
            &[],
            "weir.toml:2:11: http.origins: \"evil\" is not an origin",
        ),
        (
            "[http]\norigins = [\n5]",
            &[],
            "weir.toml:3:1: http.origins: it has to be text, and is 5",
        ),
        ("http.names = [\"a:80\"]", &[], "weir.toml:1:14: http.names: \"a:80\" is not a host name"),
        ("[tls]\ncertificate = \"a\"", &[], "weir.toml:2:15: tls.certificate: tls.key is missing"),
        ("[tls]\nkey = \"a\"", &[], "weir.toml:2:7: tls.key: tls.certificate is missing"),
        ("[tls]\ncheck = \"1ms\"", &[], "weir.toml:2:9: tls.check: it is below 10ms"),
        ("[tls.acme]\ndomain = 1", &[], "weir.toml:2:1: tls.acme.domain: unknown key"),
        (
            "[tls.acme]\ncontact = \"a@b\"",
            &[],
            "weir.toml:1:6: tls.acme: tls.acme.domains names no",
        ),
        (
            "[tls.acme]\ndomains = [\"*.a.example\"]",
            &[],
            "weir.toml:2:11: tls.acme.domains: \"*.a.example\" is not a name",
        ),
        (
            "[tls.acme]\ndomains = [\"a.example\"]\ncontact = \"me\"",
            &[],
            "weir.toml:3:11: tls.acme.contact: it is not an address",
        ),
        (
            "[tls.acme]\ndirectory = \"http://a\"",
            &[],
            "weir.toml:2:13: tls.acme.directory: \"http://a\" is neither production, staging nor",
        ),
        (
            "[tls]\ncertificate = \"a\"\nkey = \"b\"\nacme.domains = [\"a.example\"]",
            &[],
            "weir.toml:2:15: tls.certificate: the certificate is either in files or from",
        ),
        (
            "[access]\nkeys = \"http://id.example/keys\"",
            &[],
            "weir.toml:2:8: access.keys: \"http://id.example/keys\" is not an address",
        ),
        (
            "[access]\nauthorize = \"nowhere\"",
            &[],
            "weir.toml:2:13: access.authorize: \"nowhere\" is not an address",
        ),
        (
            "[access]\nkeys = \"/k\"\nauthorize = \"http://127.0.0.1/\"",
            &[],
            "weir.toml:3:13: access.authorize: access.keys is set too",
        ),
        ("[access]\ntimeout = \"11s\"", &[], "weir.toml:2:11: access.timeout: it is not above 0s"),
        (
            "[access]\nauthorities = \"/a.pem\"\nauthorize = \"http://127.0.0.1/\"",
            &[],
            "weir.toml:2:15: access.authorities: it is for a server, and neither",
        ),
        (
            "[access]\naudience = \"a\"\nauthorize = \"http://127.0.0.1/\"",
            &[],
            "weir.toml:2:12: access.audience: it is for tokens",
        ),
        (
            "[log]\nqlog = \"192.0.2.7:4433\"",
            &[],
            "weir.toml:2:8: log.qlog: it is not an address without port, such as \"192.0.2.7\"",
        ),
        (
            "[log]\nqlog = 5",
            &[],
            "weir.toml:2:8: log.qlog: it has to be an address without port, such",
        ),
        (
            "[log]\notlp = \"127.0.0.1:4318\"",
            &[],
            "weir.toml:2:8: log.otlp: \"127.0.0.1:4318\" is not the address of a collector such as",
        ),
        (
            "[log]\notlp_ratio = 1.5",
            &[],
            "weir.toml:2:14: log.otlp_ratio: it has to be a number from 0 to 1, and is 1.5",
        ),
        (
            "",
            &[("WEIR_LOG__OTLP_RATIO", "most")],
            "environment variable WEIR_LOG__OTLP_RATIO: log.otlp_ratio: it has to be a number from 0 to \
             1, and is \"most\"",
        ),
        ("\n[limits]\nwindow = 1", &[], "weir.toml:3:10: limits.window: 1 is below 64"),
        ("limits = { window = 1 }", &[], "weir.toml:1:21: limits.window: 1 is below 64"),
        ("[limit]\nwindow = 1", &[], "weir.toml:1:2: limit: unknown key"),
        ("limits = 5", &[], "weir.toml:1:10: limits: it has to be a section, and is 5"),
        (
            "[limits]\nwindow = 64",
            &[("WEIR_LIMITS__WINDOW", "3")],
            "environment variable WEIR_LIMITS__WINDOW: limits.window: 3 is below 64",
        ),
    ] {
        let error = load(text, variables).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let missing = Config::load(Some(Path::new("/no/such.toml")), []).unwrap_err().to_string();
    assert!(missing.starts_with("/no/such.toml: "), "{missing}");
}

// The fuzz target `config` found that a key in quotes may have line ends and escape sequences. The error
// then had several lines, and the terminal obeyed it.
#[test]
fn an_error_is_one_line_whatever_its_key_is() {
    for text in ["\"a\\nb\\u001b[2J\" = 1", "[http]\n\"a\\nb\" = 1", "[http]\na\x1b[2J = 1"] {
        let error = load(text, &[]).unwrap_err();
        assert!(!error.contains(char::is_control), "{error:?}");
        assert!(error.starts_with("weir.toml:"), "{error}");
    }
    let named = load("\"a\\nb\" = 1", &[]).unwrap_err();
    assert!(named.starts_with(r#"weir.toml:1:1: "a\nb": "#), "{named}");
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
                [limits]\npayload = 1\nsessions = 1\nsessions_per_address = 1\nsessions_per_identity = 1\n\
                connections_per_address = 1\nhandshakes_per_address = 1\nfailures_per_address = 1\nmessages = 1\n\
                bytes = 0\nreplay = 0\nbuffers = 1\nexempt = []\ntopics = 1\nsubscriptions = 1\nproducers = 1\n\
                window = 64\n[log]\nlevel = \"off\"\nformat = \"json\"\nqlog = \"::1\"\notlp_ratio = 0\n[[topics]]\nfilter = \"a\"\npayload = 1\n";
    let (old, mut new) = (Config::default(), load(text, &[]).unwrap());
    // Not every build takes it.
    new.log.otlp = Some("http://127.0.0.1:4318".into());
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
