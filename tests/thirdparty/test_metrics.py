"""The metrics, read by Prometheus' own parser."""

import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def scrape(daemon):
    request = urllib.request.Request(f"http://{daemon.ops}/metrics", headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        kind = answer.headers["Content-Type"]
        assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
        return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def test_a_parser_of_others_reads_all_metrics(start):
    daemon = start()
    before = scrape(daemon)
    assert len(before) > 40 and all(name.startswith("weir_") for name in before)
    for family in before.values():
        assert family.documentation and family.samples, family
        assert family.type in ("counter", "gauge", "histogram", "info"), family
        assert not family.unit or family.name.endswith("_" + family.unit), family
    topic = f"http://{daemon.http_host}:{daemon.http_port}/v1/topics/metrics/a"
    with urllib.request.urlopen(topic, data=b"hello", timeout=20) as answer:
        assert answer.status == 200
    after = scrape(daemon)
    assert before.keys() == after.keys()

    def value(families, family, name, **labels):
        (found,) = [s for s in families[family].samples if s.name == name and labels.items() <= s.labels.items()]
        return found.value

    received = "weir_received_messages"
    assert value(after, received, received + "_total") == value(before, received, received + "_total") + 1
    assert value(after, "weir_build", "weir_build_info") == 1
    buckets = [s for s in after["weir_journal_delay_seconds"].samples if s.name.endswith("_bucket")]
    assert buckets[-1].labels["le"] == "+Inf" and buckets[-1].value == 1
    assert [s.value for s in buckets] == sorted(s.value for s in buckets)
