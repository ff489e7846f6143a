#!/usr/bin/env python3
"""What a daemon takes that does nothing: benches/footprint.py path/to/weir [--json]

Size of the binary, and of what strip leaves; time from the start of the process to the line that says that it
listens, for the first start, which makes certificates and a journal, and for the next ones; resident memory 2 s
after the start; threads; time from TERM to the end. Medians of 15 starts. Linux only.
"""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

STARTS = 15


def start(weir, state):
    began = time.perf_counter()
    command = [weir, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"]
    daemon = subprocess.Popen(
        [*command, "--state", state, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    json.loads(daemon.stdout.readline())
    return daemon, (time.perf_counter() - began) * 1000


def memory(pid):
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["RssAnon"].split()[0]) / 1024, int(fields["Threads"])


def stop(daemon):
    began = time.perf_counter()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(timeout=20) == 0
    return (time.perf_counter() - began) * 1000


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--json"]
    if len(arguments) != 1:
        sys.exit(__doc__.splitlines()[0])
    weir = os.path.realpath(arguments[0])
    first, later, ends, rest = [], [], [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as state:
            daemon, took = start(weir, state)
            first.append(took)
            stop(daemon)
            daemon, took = start(weir, state)
            later.append(took)
            if len(rest) < 3:
                time.sleep(2)
                rest.append(memory(daemon.pid))
            ends.append(stop(daemon))
    with tempfile.NamedTemporaryFile() as stripped:
        subprocess.run(["strip", "-o", stripped.name, weir], check=True)
        small = os.path.getsize(stripped.name)
    figures = {
        "binary_mib": os.path.getsize(weir) / 2**20,
        "stripped_mib": small / 2**20,
        "first_start_ms": statistics.median(first),
        "next_start_ms": statistics.median(later),
        "stop_ms": statistics.median(ends),
        "rss_mib": statistics.median(each[0] for each in rest),
        "rss_of_its_own_mib": statistics.median(each[1] for each in rest),
        "threads": statistics.median(each[2] for each in rest),
    }
    if "--json" in sys.argv:
        print(json.dumps({name: round(figure, 2) for name, figure in figures.items()}))
    else:
        for name, figure in figures.items():
            print(f"{name:20} {figure:8.2f}")


main()
