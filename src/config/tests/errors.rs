//! Errors name the place and the key, and say what to do.

use super::*;

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
