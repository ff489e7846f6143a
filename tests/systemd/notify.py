"""What the daemon tells systemd, in order: tests/systemd/notify.py path/to/weir DIRECTORY

DIRECTORY/state and DIRECTORY/runtime are the daemon's.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

weir, work = sys.argv[1:]
path = f"{work}/notify"
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(path)
notify.settimeout(20)
environment = dict(
    os.environ,
    NOTIFY_SOCKET=path,
    STATE_DIRECTORY=f"{work}/state",
    RUNTIME_DIRECTORY=f"{work}/runtime",
    WATCHDOG_USEC="2000000",
)
# That of the unit.
os.umask(0o077)
daemon = subprocess.Popen(
    [weir, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json"],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
)


def heard():
    states = notify.recv(4096).decode().splitlines()
    return dict(state.split("=", 1) for state in states)


def expect(key, value=None):
    """Reads up to a state, and returns what came with it. Pings may come at any time."""
    while True:
        states = heard()
        if states == {"WATCHDOG": "1"} and key != "WATCHDOG":
            continue
        print("   heard:", " ".join(f"{name}={value}" for name, value in states.items()))
        assert key in states, f"{key} was to come first"
        assert value is None or states[key] == value, f"{key} is not {value}"
        return states


try:
    first = expect("READY", "1")
    assert first["STATUS"] == "sessions: 0, topics: 0, messages/s: 0", first
    expect("WATCHDOG", "1")
    begun = time.monotonic()
    expect("WATCHDOG", "1")
    left = f"{work}/runtime/certificate.sha256"
    mode = os.stat(left).st_mode & 0o777
    assert mode == 0o644, f"{left} has mode {mode:o}"
    with open(left) as here, open(f"{work}/state/certificate.sha256") as there:
        assert here.read() == there.read(), "two different hashes"
    print("   the hash stands in the runtime directory, mode 644")

    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    daemon.send_signal(signal.SIGHUP)
    reloading = expect("RELOADING", "1")
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert before <= int(reloading["MONOTONIC_USEC"]) <= now, reloading
    assert set(expect("READY", "1")) == {"READY"}

    http = json.loads(daemon.stdout.readline())["http"]
    for n in range(20):
        urllib.request.urlopen(f"http://{http}/v1/topics/demo/{n % 2}", data=b"x").read()
    status = expect("STATUS")
    assert status["STATUS"].startswith("sessions: 0, topics: 2, messages/s: "), status
    assert not status["STATUS"].endswith(" 0"), status

    daemon.send_signal(signal.SIGTERM)
    # Another look may have come before.
    while "STOPPING" not in (stopping := heard()):
        pass
    print("   heard:", " ".join(f"{name}={value}" for name, value in stopping.items()))
    # The default of drain, 10 s, and more.
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 10_000_000, stopping
    code = daemon.wait(timeout=10)
    assert code == 0, f"exit code {code} after TERM"
    print("   exit code 0 after TERM")
finally:
    daemon.kill()
