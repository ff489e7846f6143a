"""The daemon under test: the one at `$WEIR_BIN`, or the debug build."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support")

from client import Client
from web import Web

ROOT = Path(__file__).resolve().parent.parent.parent
START, STOP = 20, 20


class Daemon:
    """A daemon of one's own on free ports, with its own state directory."""

    def __init__(self, state, **settings):
        binary = Path(os.environ.get("WEIR_BIN", ROOT / "target/debug/weir")).resolve()
        self._log = state / "daemon.log"
        self._told = False
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [binary, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--state", state, "--json"],
                env={**environment, "WEIR_OPS__LISTEN": "127.0.0.1:0", **settings},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        line = []
        reader = threading.Thread(target=lambda: line.append(self._process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(START)
        if not line or not line[0]:
            self._process.kill()
            raise AssertionError(f"the daemon did not get ready within {START} s:\n{self.log()}")
        ready = json.loads(line[0])
        assert ready["event"] == "ready", ready
        self.host, port = ready["listen"].rsplit(":", 1)
        self.port = int(port)
        self.http_host, port = ready["http"].rsplit(":", 1)
        self.http_port = int(port)
        self.ops = ready["ops"]
        self.certificate_sha256 = ready["certificate_sha256"]

    def connect(self, transport, **options):
        host, port = (self.http_host, self.http_port) if transport.startswith("plain") else (self.host, self.port)
        return Client.connect(host, port, self.certificate_sha256, transport, **options)

    def web(self, secure=False):
        """Where requests go, by HTTP or by HTTPS."""
        if secure:
            return Web(self.host, self.port, self.certificate_sha256)
        return Web(self.http_host, self.http_port)

    def log(self):
        return self._log.read_text()

    def terminate(self):
        # Once: a second one means at once, and not well.
        if not self._told:
            self._told = True
            self._process.send_signal(signal.SIGTERM)

    def exit_code(self):
        try:
            return self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"the daemon did not stop within {STOP} s of SIGTERM:\n{self.log()}") from None

    def stop(self):
        if self._process.poll() is None:
            self.terminate()
        code = self.exit_code()
        assert code == 0, f"the daemon's exit code is {code}:\n{self.log()}"


@pytest.fixture(scope="session")
def daemon(tmp_path_factory):
    """One daemon for all tests that need nothing special of it. They keep to topics of their own."""
    daemon = Daemon(tmp_path_factory.mktemp("state"))
    yield daemon
    daemon.stop()


@pytest.fixture
def start(tmp_path):
    """Starts further daemons, with settings from the environment: `start(WEIR_LIMITS__PAYLOAD="1KiB")`."""
    daemons = []

    def start(**settings):
        state = tmp_path / str(len(daemons))
        state.mkdir()
        daemons.append(Daemon(state, **settings))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.stop()


@pytest.fixture(params=["quic", "webtransport", "websocket"])
def transport(request):
    return request.param


@pytest.fixture(params=["quic", "webtransport"])
def streams(request):
    """A transport that has streams."""
    return request.param


@pytest.fixture
def topic(request):
    """A topic prefix that no other test has."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)
