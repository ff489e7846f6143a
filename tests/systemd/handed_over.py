"""Sockets that are handed over, by the rules of sd_listen_fds(3), to two daemons one after the other:
tests/systemd/handed_over.py path/to/weir DIRECTORY
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys

weir, work = sys.argv[1:]
state = f"{work}/handed-over"
# Numbers of <netinet/in.h>, <netinet/udp.h> and <linux/in.h>.
IP_MTU_DISCOVER, IP_RECVTOS, UDP_GRO, IP_PMTUDISC_PROBE = 10, 13, 104, 3
BUFFER = 8 << 20


def bind():
    while True:
        tcp = socket.create_server(("127.0.0.1", 0), backlog=128)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
            return udp, tcp, socket.create_server(("127.0.0.1", 0), backlog=128)
        except OSError:
            udp.close()


def serve(sockets, names, *arguments, **more):
    """Starts a daemon with these sockets as descriptors 3 and higher."""
    high = [fcntl.fcntl(given.fileno(), fcntl.F_DUPFD, 20) for given in sockets]
    moves = " ".join(f"{3 + at}<&{number}" for at, number in enumerate(high))
    environment = dict(os.environ, LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=names)
    try:
        return subprocess.Popen(
            ["bash", "-c", f'exec {moves}; LISTEN_PID=$$ exec "$@"', "-", weir, "serve", "--state", state, "--json"]
            + list(arguments),
            env=environment,
            pass_fds=high,
            **more,
        )
    finally:
        for number in high:
            os.close(number)


def client(verb, *arguments, **more):
    command = [weir, verb, *arguments, "--server", "%s:%d" % udp.getsockname(), "--state", state]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)


def request(number):
    """Connects, which is never refused, and sends a publication."""
    connection = socket.create_connection(http.getsockname(), timeout=60)
    body = str(number)
    head = f"POST /v1/topics/demo/a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
    connection.sendall(f"{head}\r\n{body}".encode())
    return connection


def answered(connections):
    for connection in connections:
        answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 "), answer


udp, tcp, http = bind()
port, plain = udp.getsockname()[1], http.getsockname()[1]
running = []
try:
    with open(f"{work}/first.log", "w") as log:
        first = serve((udp, tcp, http), "weir:weir:http", stdout=subprocess.PIPE, stderr=log)
    running.append(first)
    ready = json.loads(first.stdout.readline())
    assert ready["listen"] == f"127.0.0.1:{port}" and ready["http"] == f"127.0.0.1:{plain}", ready
    with open(f"{work}/first.log") as log:
        told = [line for line in log if "handed over" in line]
    # Those of the configuration are others, and the log says so.
    assert len(told) == 3 and all("WARN" in line for line in told), told
    assert any(f"127.0.0.1:{plain}" in line and "127.0.0.1:8080" in line for line in told), told
    assert any(f"127.0.0.1:{port}" in line and "[::]:4433" in line for line in told), told
    print("   the addresses of the sockets apply, and differ from the configuration: three lines in the log")

    option = lambda level, name: udp.getsockopt(level, name)
    assert option(socket.IPPROTO_IP, IP_RECVTOS) == 1, "no ECN"
    assert option(socket.IPPROTO_UDP, UDP_GRO) == 1, "no GRO"
    assert option(socket.IPPROTO_IP, IP_MTU_DISCOVER) == IP_PMTUDISC_PROBE, "no discovery of the MTU"
    for buffer, limit in ((socket.SO_RCVBUF, "rmem_max"), (socket.SO_SNDBUF, "wmem_max")):
        with open(f"/proc/sys/net/core/{limit}") as most:
            wanted = 2 * min(BUFFER, int(most.read()))
        assert option(socket.SOL_SOCKET, buffer) >= wanted, (limit, option(socket.SOL_SOCKET, buffer))
    print("   the UDP socket has ECN, GRO, discovery of the MTU, and the buffers that the kernel gives")

    messages = 60
    subscriber = client("sub", "demo/a", "--from", "all", "--count", str(messages), "--json", stderr=subprocess.DEVNULL)
    running.append(subscriber)
    answered([request(n) for n in range(20)])
    # The first daemon serves it before it is told to stop.
    begun = subscriber.stdout.readline()
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=20) == 0
    waiting = [request(n) for n in range(20, 40)]
    publisher = client("pub", "demo/b", "meanwhile")
    running.append(publisher)
    second = serve((udp, tcp, http), "weir:weir:http", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    running.append(second)
    answered(waiting)
    print("   20 connections and a session over QUIC came between two daemons, and the second served them")
    assert publisher.wait(timeout=60) == 0, "a session over QUIC was refused"
    answered([request(n) for n in range(40, messages)])
    events = [json.loads(line) for line in (begun + subscriber.stdout.read()).splitlines()]
    got = [int(event["payload"]) for event in events if "event" not in event]
    assert sorted(got) == list(range(messages)) and subscriber.wait(timeout=60) == 0, got
    assert [event["sequence"] for event in events if "event" not in event] == list(range(1, messages + 1))
    assert not [event for event in events if event.get("event") == "gap"], events
    print("   a subscriber was served by both, and missed nothing")
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=20) == 0

    wrong = {
        "weir:weir:other": ((udp, tcp, http), "other: the names of sockets are weir and http"),
        "weir:weir": ((tcp, http), "two sockets of this name"),
        "weir": ((udp, tcp), "LISTEN_FDNAMES"),
        "http": ((udp,), "HTTP needs a TCP socket"),
    }
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    wrong["weir:http"] = ((udp, unix), "neither UDP nor TCP")
    for names, (sockets, reason) in wrong.items():
        daemon = serve(sockets, names, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        running.append(daemon)
        said = daemon.communicate(timeout=20)[1]
        assert daemon.returncode == 78 and reason in said, (names, daemon.returncode, said)
    print("   sockets with wrong names or of other kinds: exit code 78, and the reason")
finally:
    for process in running:
        process.kill()
