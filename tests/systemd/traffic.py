"""Traffic through a restart that refuses nothing: tests/systemd/traffic.py path/to/weir STATE COMMAND…

Runs COMMAND, which replaces the daemon, while connections over TCP with and without TLS and sessions over
QUIC come one after the other, and a subscriber over each transport stays. Nobody tries anything twice.
"""

import http.client
import json
import ssl
import subprocess
import sys
import threading
import time

weir, state, *command = sys.argv[1:]
stop = threading.Event()
published, failures = [], []
lock = threading.Lock()
# Pinning is what clients do. Here only the connection matters.
tls = ssl._create_unverified_context()


def publish_over_http(name, connect):
    number = 0
    while not stop.is_set():
        number += 1
        payload = f"{name}-{number}"
        try:
            connection = connect()
            connection.request("POST", "/v1/topics/demo/t", body=payload)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise OSError(f"{answer.status} {body}")
            connection.close()
        except OSError as error:
            failures.append(f"{payload}: {error!r}")
            return
        with lock:
            published.append(payload)
        time.sleep(0.002)


def publish_over_quic():
    number = 0
    while not stop.is_set():
        number += 1
        payload = f"quic-{number}"
        done = subprocess.run(
            [weir, "pub", "demo/t", payload, "--server", "localhost:4433", "--state", state],
            capture_output=True, text=True, timeout=60,
        )
        if done.returncode != 0:
            failures.append(f"{payload}: {done.stderr}")
            return
        with lock:
            published.append(payload)


def subscribe(transport):
    return subprocess.Popen(
        [weir, "sub", "demo/t", "--from", "all", "--json", "--server", "localhost:4433", "--state", state]
        + ["--transport", transport],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )


subscribers = {transport: subscribe(transport) for transport in ("quic", "webtransport", "websocket")}
workers = [
    threading.Thread(target=publish_over_http, args=("http", lambda: http.client.HTTPConnection("127.0.0.1", 8080, timeout=60))),
    threading.Thread(target=publish_over_http, args=("https", lambda: http.client.HTTPSConnection("127.0.0.1", 4433, timeout=60, context=tls))),
    threading.Thread(target=publish_over_quic),
]
try:
    for worker in workers:
        worker.start()

    def more():
        """Waits until each publishes again."""
        with lock:
            have = len(published)
        wanted = {"http", "https", "quic"}
        end = time.monotonic() + 60
        while wanted and not failures:
            assert time.monotonic() < end, f"nothing from {wanted}"
            with lock:
                wanted -= {payload.split("-")[0] for payload in published[have:]}
            time.sleep(0.01)

    more()
    begun = time.monotonic()
    subprocess.run(command, check=True)
    took = time.monotonic() - begun
    more()
finally:
    stop.set()
    for worker in workers:
        worker.join()
    print(f"   replaced in {took:.2f} s" if "took" in globals() else "   not replaced")

assert not failures, failures
for transport, subscriber in subscribers.items():
    got, missing = [], set(published)
    # It is served, so that its end comes, or the test's time is over.
    while missing:
        event = json.loads(subscriber.stdout.readline())
        assert event.get("event") != "gap", event
        if "event" not in event:
            got.append(event)
            missing.discard(event["payload"])
    subscriber.kill()
    assert [event["sequence"] for event in got] == list(range(1, len(got) + 1)), "out of order, or twice"
print(f"   {len(published)} publications over new connections, none refused; three subscribers got all in order")
