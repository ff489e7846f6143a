//! The dashboard and the alert rules name metrics that exist, and Prometheus' own tool reads the rules.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The names in `docs/metrics.md`, which a test of the library compares with the metrics.
fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string("docs/metrics.md").unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned()));
    names.filter(|name| name.starts_with("weir_")).collect()
}

fn named(text: &str) -> BTreeSet<String> {
    let part = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let words = text.split(part).filter(|word| word.starts_with("weir_"));
    // Those of a histogram.
    words.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_metrics_that_exist() {
    let documented = documented();
    assert!(documented.len() > 40, "{documented:?}");
    for file in ["systemd/grafana.json", "systemd/alerts.yml", "tests/ops/alerts_test.yml"] {
        let named = named(&std::fs::read_to_string(file).unwrap());
        let unknown: Vec<_> = named.difference(&documented).collect();
        assert!(named.len() > 3 && unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard = std::fs::read_to_string("systemd/grafana.json").unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
}

#[test]
fn promtool_accepts_the_alerts() {
    let run = |arguments: &[&str]| Command::new("promtool").args(arguments).output();
    if run(&["--version"]).is_err() {
        println!("not tested: there is no promtool (Debian package prometheus)");
        return;
    }
    for arguments in
        [["check", "rules", "systemd/alerts.yml"], ["test", "rules", "tests/ops/alerts_test.yml"]]
    {
        assert!(Path::new(arguments[2]).exists());
        let output = run(&arguments).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}
