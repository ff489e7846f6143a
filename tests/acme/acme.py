"""The daemon orders its certificate from a local authority, which checks the challenges for real.

Each round: the authority is down, and the daemon presents what it has. A publisher at 100 Hz and a
subscriber over each transport run. The authority comes up, HUP, and the certificate changes under
that traffic, over QUIC and TCP. Nobody notices but who connects anew.
"""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

WEIR = sys.argv[1]
NAMES = ["relay.example", "www.relay.example"]
TRANSPORTS = ["quic", "webtransport", "websocket"]
PATIENCE = 60
COUNT = 400


def free_ports(count):
    """Ports for programs that cannot choose their own."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(what, done):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = done()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {PATIENCE} s")


def is_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def weir(state, *arguments, **options):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")}
    environment.pop("STATE_DIRECTORY", None)
    environment["XDG_STATE_HOME"] = str(state)
    return subprocess.Popen([WEIR, *arguments], env=environment, text=True, **options)


def output(state, *arguments):
    process = weir(state, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, f"weir {arguments}: {error}"
    return out


class Authority:
    """The authority, and a server of names for which every name is this machine."""

    def __init__(self, directory, challenge_port):
        self.directory = directory
        self.port, self.management, self.names, other = free_ports(4)
        output(directory, "cert", "new", "--names", "localhost,127.0.0.1", "--out", directory / "authority")
        self.ca = directory / "authority/certificate.pem"
        self.config = directory / "authority.json"
        self.config.write_text(json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.ca),
            "privateKey": str(directory / "authority/key.pem"),
            "httpPort": challenge_port,
            "tlsPort": challenge_port,
        }}))
        self.log = open(directory / "authority.log", "a")
        self.dns = subprocess.Popen(
            ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
             "-dns01", f"127.0.0.1:{self.names}", "-http01", "", "-https01", "", "-tlsalpn01", "",
             "-management", f"127.0.0.1:{other}"],
            stdout=self.log, stderr=self.log)
        self.process = None

    def start(self):
        """Each start has other keys, and has forgotten the accounts."""
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "5"}
        self.process = subprocess.Popen(
            ["pebble", "-strict", "-config", str(self.config), "-dnsserver", f"127.0.0.1:{self.names}"],
            env=environment, stdout=self.log, stderr=self.log)
        wait_for("the authority", lambda: is_open(self.port) and is_open(self.management))

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.process = None

    def root(self):
        context = ssl.create_default_context(cafile=self.ca)
        url = f"https://localhost:{self.management}/roots/0"
        with urllib.request.urlopen(url, context=context) as answer:
            return answer.read().decode()

    def end(self):
        self.stop()
        self.dns.terminate()
        self.dns.wait(PATIENCE)
        self.log.close()


class Daemon:
    def __init__(self, state, config):
        self.state = state
        self.log = state / "weir.log"
        self.process = weir(state, "serve", "--config", str(config), "--json",
                            stdout=subprocess.PIPE, stderr=open(self.log, "a"))
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        ready = json.loads(line)
        self.server = ready["listen"]
        self.port = int(self.server.rsplit(":", 1)[1])
        self.http = ready["http"]

    def shown(self):
        """The daemon's own certificate, which it presents over QUIC and TCP alike."""
        lines = output(self.state, "cert", "show", "--server", self.server, "--json").splitlines()
        first = json.loads(lines[0])
        assert first["over"] == ["quic", "tcp"] and first["position"] == 0, first
        return first

    def facts(self):
        with urllib.request.urlopen(f"http://{self.http}/certificate.sha256") as answer:
            return json.load(answer)

    def hup(self):
        self.process.send_signal(signal.SIGHUP)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0


class Traffic:
    """A publisher at 100 Hz, and a subscriber over each transport that prints each message."""

    def __init__(self, daemon, topic):
        self.subscribers = []
        for transport in TRANSPORTS:
            self.subscribers.append(weir(
                daemon.state, "sub", topic, "--from", "all", "--count", str(COUNT), "--json", "--no-reconnect",
                "--transport", transport, "--server", daemon.server, stdout=subprocess.PIPE))
        self.publisher = weir(daemon.state, "pub", topic, "--lines", "--no-reconnect", "--server", daemon.server,
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.fed = threading.Thread(target=self.feed)
        self.fed.start()
        for subscriber in self.subscribers:
            assert json.loads(subscriber.stdout.readline())["sequence"] == 1

    def feed(self):
        start = time.monotonic()
        for n in range(COUNT):
            time.sleep(max(0, start + n * 0.01 - time.monotonic()))
            self.publisher.stdin.write(f"{n + 1}\n")
            self.publisher.stdin.flush()
        self.publisher.stdin.close()

    def finish(self):
        assert self.fed.is_alive(), "the change came under traffic"
        self.fed.join()
        assert self.publisher.wait(PATIENCE) == 0
        for transport, subscriber in zip(TRANSPORTS, self.subscribers):
            messages = [json.loads(line) for line in subscriber.stdout]
            assert subscriber.wait(PATIENCE) == 0, transport
            assert [m.get("payload") for m in messages] == [str(n) for n in range(2, COUNT + 1)], transport


def mode(path):
    return oct(path.stat().st_mode & 0o777)


def check_issued(daemon, authority):
    """The certificate, as a stranger sees it who trusts the authority."""
    shown = daemon.shown()
    assert sorted(shown["names"]) == NAMES, shown
    assert not shown["self_signed"] and "Pebble" in shown["issuer"], shown
    context = ssl.create_default_context(cadata=authority.root())
    for name in NAMES:
        with socket.create_connection(("127.0.0.1", daemon.port)) as tcp:
            context.wrap_socket(tcp, server_hostname=name).close()
    facts = daemon.facts()
    assert facts["pinning"] is False and facts["next"] is None, facts
    assert facts["current"] == shown["sha256"], facts
    # The daemon goes by this name, without http.names.
    host = urllib.request.Request(f"http://{daemon.http}/certificate.sha256", headers={"Host": NAMES[0]})
    urllib.request.urlopen(host).close()
    # Clients on this machine find the hash.
    for transport in TRANSPORTS:
        output(daemon.state, "ping", "--count", "1", "--server", daemon.server, "--transport", transport)
    return shown


def round_trip(challenge, directory):
    listen, http, own = free_ports(3)
    answers = {"tls-alpn-01": listen, "http-01": http, "own": own}[challenge]
    authority = Authority(directory, answers)
    config = directory / "weir.toml"
    kind, line = challenge, ""
    if challenge == "own":
        kind, line = "tls-alpn-01", f'listen = "127.0.0.1:{own}"'
    config.write_text(f"""
listen = "127.0.0.1:{listen}"
[http]
listen = "127.0.0.1:{http}"
[tls.acme]
domains = {json.dumps(NAMES)}
contact = "ops@relay.example"
directory = "https://localhost:{authority.port}/dir"
challenge = "{kind}"
authorities = "{authority.ca}"
{line}
""")
    daemon = Daemon(directory, config)
    kept = directory / f"weir/acme/localhost-{authority.port}-dir"
    try:
        # The authority is down: a self-signed certificate, which pages pin.
        first = daemon.shown()
        assert first["self_signed"] and daemon.facts()["pinning"], first
        wait_for("a failure is logged", lambda: "no new certificate" in daemon.log.read_text())
        traffic = Traffic(daemon, "first/a")
        authority.start()
        daemon.hup()
        wait_for("the first certificate", lambda: not daemon.shown()["self_signed"])
        traffic.finish()
        issued = check_issued(daemon, authority)
        assert [mode(kept / name) for name in ["key.pem", "account.json"]] == ["0o600", "0o600"]
        print(f"{challenge}: self-signed to issued under traffic")

        # A restart uses what is kept, and orders nothing.
        daemon.stop()
        authority.stop()
        daemon = Daemon(directory, config)
        assert daemon.shown()["sha256"] == issued["sha256"]

        # What is kept is due, and the authority has forgotten the account.
        daemon.stop()
        old = directory / "old"
        make_due(old)
        for name in ["key.pem", "certificate.pem"]:
            (old / name).replace(kept / name)
        daemon = Daemon(directory, config)
        due = daemon.shown()
        assert due["sha256"] != issued["sha256"] and sorted(due["names"]) == NAMES, due
        traffic = Traffic(daemon, "second/a")
        authority.start()
        daemon.hup()
        wait_for("the next certificate", lambda: daemon.shown()["sha256"] != due["sha256"])
        traffic.finish()
        renewed = check_issued(daemon, authority)
        assert renewed["sha256"] not in [due["sha256"], issued["sha256"]]
        daemon.stop()
        print(f"{challenge}: renewed under traffic, with another account")
    except BaseException:
        print((directory / "weir.log").read_text()[-4000:], (directory / "authority.log").read_text()[-4000:])
        raise
    finally:
        daemon.process.kill()
        authority.end()


def make_due(out):
    """A certificate of which less than a third is left: made 20 hours ago, for a day."""
    out.mkdir()
    (out / "index").write_text("")
    (out / "ca.cnf").write_text(f"""
[ca]
default_ca = it
[it]
database = {out}/index
new_certs_dir = {out}
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
""")
    names = "subjectAltName=" + ",".join(f"DNS:{name}" for name in NAMES)
    for command in [
        ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=relay",
         "-addext", names, "-keyout", out / "key.pem", "-out", out / "request.pem"],
        ["ca", "-batch", "-selfsign", "-notext", "-config", out / "ca.cnf", "-keyfile", out / "key.pem",
         "-in", out / "request.pem", "-out", out / "certificate.pem",
         "-startdate", stamp(-20), "-enddate", stamp(4)],
    ]:
        subprocess.run(["openssl", *command], check=True, capture_output=True)


def stamp(hours):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + hours * 3600))


passed = 0
for challenge in ["tls-alpn-01", "http-01", "own"]:
    with tempfile.TemporaryDirectory(prefix="weir-acme-") as directory:
        round_trip(challenge, Path(directory))
    passed += 1
print(f"{passed} passed, 0 failed")
