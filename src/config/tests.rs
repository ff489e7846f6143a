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
    assert_eq!(keys, 16);
    let table: toml::Table = DEFAULT.parse().unwrap();
    assert_eq!(table.keys().map(String::as_str).collect::<Vec<_>>(), TOP);
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
fn errors_name_file_line_and_key() {
    for (text, variables, expected) in [
        ("[cache]\nbyts = 1", &[][..], "weir.toml:2: cache.byts: unknown field `byts`"),
        ("\n[limits]\ntopics = \"x\"", &[], "weir.toml:3: limits.topics: invalid type"),
        ("listen = \"nowhere\"", &[], "weir.toml:1: listen: invalid socket address"),
        ("cache = [", &[], "weir.toml:1: "),
        ("[cache]\nbytes = 1\nbytes = 2", &[], "weir.toml:3: cache.bytes: duplicate key"),
        ("[cache]\nbytes =", &[], "weir.toml:2: cache.bytes: "),
        ("[http]\nlisten = \"abc", &[], "weir.toml:2: http.listen: "),
        ("", &[("WEIR_CACHE__BYTS", "1")], "environment variable WEIR_CACHE__BYTS: "),
        ("", &[("WEIR_CACHE", "1")], "environment variable WEIR_CACHE: "),
        ("", &[("WEIR_LISTEN", "x")], "environment variable WEIR_LISTEN: "),
        ("", &[("WEIR_CACHE__BYTES", "much")], "environment variable WEIR_CACHE__BYTES: "),
        (
            "[cache]\nbytes = \"32MiB\"",
            &[],
            "weir.toml:2: cache.bytes: a limits.payload of 16.0 MiB",
        ),
        (
            "[cache]\nbytes = \"32MiB\"\n[limits]\npayload = \"9MiB\"",
            &[],
            "weir.toml:4: limits.payload: a limits.payload of 9.0 MiB is not between",
        ),
        (
            "[cache]\nbytes = \"16GiB\"\n[limits]\npayload = \"2GiB\"",
            &[],
            "weir.toml:4: limits.payload: 2.0 GiB is above 1GiB",
        ),
        (
            "[journal]\nbytes = \"1040MiB\"",
            &[],
            "weir.toml:2: journal.bytes: 1040MiB is below four times cache.bytes and 32MiB, 1056MiB",
        ),
        ("[http]\nlisten = \"8080\"", &[], "weir.toml:2: http.listen: \"8080\" is neither"),
        (
            "[http]\norigins = [\n\"evil\"]",
            &[],
            "weir.toml:2: http.origins: \"evil\" is not an origin",
        ),
        ("[http]\norigins = [\n5]", &[], "weir.toml:3: http.origins: invalid type"),
        ("http.names = [\"a:80\"]", &[], "weir.toml:1: http.names: \"a:80\" is not a host name"),
        ("\n[limits]\nwindow = 1", &[], "weir.toml:3: limits.window: 1 is below 64"),
        ("limits = { window = 1 }", &[], "weir.toml:1: limits.window: 1 is below 64"),
        ("[limit]\nwindow = 1", &[], "weir.toml:1: limit: unknown field"),
        ("limits = 5", &[], "weir.toml:1: limits: invalid type"),
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
