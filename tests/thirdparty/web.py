"""HTTP/1.1 and server-sent events by hand, as far as the daemon's HTTP face asks for it.

    async with daemon.web().open() as web:
        status, headers, body = await web.request("POST", "/v1/topics/demo%2Fa", b"hello")

    async with daemon.web().open() as web:
        events = await web.events("demo/**", from_="all")
        event = await events.next()
"""

import asyncio
import contextlib
import json
from urllib.parse import quote

from transport import check_certificate, tls

WAIT = 30.0
"""Seconds that anything may take."""


def escape(name):
    """A topic or a filter as one segment of a path."""
    return quote(name, safe="")


class Event:
    """One event of a stream: its `id` is that of the stream after it."""

    def __init__(self, kind, data, id):
        self.kind, self.data, self.id = kind, data, id

    def __repr__(self):
        return f"Event({self.kind!r}, {self.data!r:.200}, {self.id!r})"


class Web:
    """A connection for one request after another."""

    def __init__(self, host, port, certificate_sha256=None):
        self.host, self.port, self.certificate_sha256 = host, port, certificate_sha256

    @contextlib.asynccontextmanager
    async def open(self):
        secure = self.certificate_sha256 is not None
        async with asyncio.timeout(WAIT):
            self._reader, self._writer = await asyncio.open_connection(
                self.host, self.port, ssl=tls() if secure else None
            )
        try:
            if secure:
                der = self._writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                check_certificate(der, self.certificate_sha256)
            yield self
        finally:
            self._writer.transport.abort()

    async def request(self, method, path, body=b"", headers=None):
        """Status, headers (names in lower case), and body."""
        async with asyncio.timeout(WAIT):
            status, headers = await self._ask(method, path, body, headers)
            if headers.get("transfer-encoding") == "chunked":
                body = b"".join([chunk async for chunk in self._chunks()])
            else:
                body = await self._reader.readexactly(int(headers.get("content-length", 0)))
            return status, headers, body

    async def publish(self, topic, payload, key=None, stamp=None):
        """The receipt."""
        headers = {}
        if key is not None:
            headers["Idempotency-Key"] = f'"{key}"'
        if stamp is not None:
            headers["Weir-Stamp"] = str(stamp)
        status, _, body = await self.request("POST", f"/v1/topics/{escape(topic)}", payload, headers)
        if status == 503 and key is not None and len(payload) > 64 * 1024:
            # It came a second time while it arrived, and the second one goes on. So it is asked for once more.
            status, _, body = await self.request("POST", f"/v1/topics/{escape(topic)}", payload, headers)
        if status != 200:
            raise AssertionError(f"{status} {body!r}")
        return json.loads(body)

    async def events(self, pattern, last_event_id=None, **query):
        """Asks for events. This connection is theirs from then on."""
        parameters = "&".join(f"{name.rstrip('_')}={escape(value)}" for name, value in query.items())
        path = f"/v1/events/{escape(pattern)}" + (f"?{parameters}" if parameters else "")
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        async with asyncio.timeout(WAIT):
            status, headers = await self._ask("GET", path, b"", headers)
            if status != 200 or headers.get("content-type") != "text/event-stream":
                raise AssertionError(f"{status} {headers}")
        return Events(self._chunks())

    async def _ask(self, method, path, body, headers):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._writer.drain()
        _, status, *_ = (await self._line()).split(" ")
        answer = {}
        while line := await self._line():
            name, _, value = line.partition(":")
            answer[name.lower()] = value.strip()
        return int(status), answer

    async def _line(self):
        return (await self._reader.readuntil(b"\r\n"))[:-2].decode("latin-1")

    async def _chunks(self):
        while size := int((await self._line()).partition(";")[0], 16):
            yield await self._reader.readexactly(size)
            if await self._line():
                raise AssertionError("a chunk is longer than it says")
        while await self._line():
            pass  # trailers


class Events:
    """Server-sent events (HTML, section 9.2). `id` is the last one, with which another stream goes on after it."""

    def __init__(self, chunks):
        self._chunks = chunks
        self._text = bytearray()
        self.id = ""

    async def begun(self):
        """Waits for the block that tells where the stream begins: from there on nothing is missed."""
        if await self._block() is not None or not self.id:
            raise AssertionError("the first block is not an id without data")

    async def next(self):
        """The next event. Blocks without data, which only move the id on, are passed over."""
        while (event := await self._block()) is None:
            pass
        return event

    async def _block(self):
        kind, data, block_id = "message", [], self.id
        async with asyncio.timeout(WAIT):
            while line := await self._line():
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "event":
                    kind = value
                elif name == "data":
                    data.append(value)
                elif name == "id":
                    block_id = value
        self.id = block_id
        return Event(kind, "\n".join(data), block_id) if data else None

    async def _line(self):
        while (end := self._text.find(b"\n")) < 0:
            try:
                self._text += await anext(self._chunks)
            except (StopAsyncIteration, asyncio.IncompleteReadError):
                raise ConnectionError("the stream of events has ended") from None
        line = self._text[:end].removesuffix(b"\r").decode()
        del self._text[: end + 1]
        return line
