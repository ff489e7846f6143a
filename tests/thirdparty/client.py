"""A client of weir/1, over raw QUIC, WebTransport or WebSocket, written from docs/protocol.md alone.

    async with Client.connect("127.0.0.1", 4433, certificate_sha256) as client:
        receipt = await client.publish("demo/a", b"hello")
        subscription = await client.subscribe("demo/**", start="All")
        message = await subscription.message()

Every wait ends after `timeout` seconds with a `TimeoutError` that says what did not come.
"""

import asyncio
import contextlib
import secrets

from blake3 import blake3

from codec import CONTROL_LIMIT, PAYLOAD_OVERHEAD, FrameReader, Malformed, Record, TooLarge, encode
from transport import TRANSPORTS

VERSION = 1
MESSAGE_OVERHEAD = 1 << 20
"""How much larger than the largest payload a message of WebSocket may be."""

SMALL = 64 * 1024
"""Payloads above this have a stream of their own."""

CODES = {
    "DONE": 0x00,
    "SHUTTING_DOWN": 0x01,
    "OVERLOADED": 0x02,
    "TIMED_OUT": 0x03,
    "MALFORMED": 0x10,
    "VERSION": 0x11,
    "UNEXPECTED": 0x12,
    "UNSUPPORTED": 0x13,
    "FRAME_TOO_LARGE": 0x14,
    "BAD_TOPIC": 0x20,
    "BAD_FILTER": 0x21,
    "PAYLOAD_TOO_LARGE": 0x22,
    "RESERVED": 0x23,
    "BAD_ALIAS": 0x24,
    "BAD_REQUEST": 0x25,
    "TOO_MANY_SUBSCRIPTIONS": 0x26,
    "STALE": 0x28,
    "NOT_FOUND": 0x30,
    "EVICTED": 0x31,
    "UNAUTHORIZED": 0x40,
    "FORBIDDEN": 0x41,
    "RATE_LIMITED": 0x42,
    "LAGGED": 0x50,
    "PUBLISHER_GONE": 0x51,
}


def code_name(code):
    return next((name for name, known in CODES.items() if known == code), f"code {code:#x}")


class Refused(Exception):
    """`Rejected` or `Failed`: this request came to nothing, the session goes on."""

    def __init__(self, frame):
        super().__init__(f"{code_name(frame.code)}: {frame.reason}")
        self.code = code_name(frame.code)


class Gone(ConnectionError):
    """The session has ended. `goodbye` is the daemon's last frame, if it came; `close` the code that the connection
    was closed with, and the reason there."""

    def __init__(self, close, close_reason, goodbye):
        code, reason = (goodbye.code, goodbye.reason) if goodbye is not None else (close, close_reason)
        super().__init__(f"the session has ended with {code_name(code)}: {reason}")
        self.code = code_name(code)
        self.close, self.close_reason = code_name(close), close_reason
        self.goodbye = goodbye


class Defect(Exception):
    """The daemon has broken a promise of the protocol."""


async def within(seconds, what, waiting):
    """Waits for something, but no longer than so many seconds."""
    try:
        async with asyncio.timeout(seconds):  # `wait_for` of Python 3.11 may lose a cancellation
            return await waiting
    except TimeoutError:
        raise TimeoutError(f"{what} did not come within {seconds} s") from None


class Producer:
    """Whoever numbers its publications. Kept over reconnects, so that each publication counts once."""

    def __init__(self):
        self.id = secrets.token_bytes(16)
        self._next = {}

    def number(self, topic):
        self._next[topic] = self._next.get(topic, 0) + 1
        return self._next[topic]


class Stream:
    """A stream of the client's own, for frames or, in tests, for any bytes."""

    def __init__(self, transport, unidirectional=True):
        self._transport = transport
        self._id = transport.open(unidirectional)
        self.declared = set()

    def send(self, kind, **fields):
        self.write(encode(Record(kind, **fields)))

    def write(self, data, end=False):
        self._transport.write(self._id, data, end)

    def reset(self, code=0):
        self._transport.reset(self._id, code)


class Subscription:
    """What a subscription has received. Checks what the daemon promises of the sequences."""

    def __init__(self, client, request, pattern):
        self.client, self.request, self.pattern = client, request, pattern
        self.since = Record("Position", run=0, position=0)
        self.topics = {}
        self.stream = None
        self.reset_code = None
        self.ended = client.future()
        self._by_id = {}
        self._over = self._given_up = False
        self._queue = asyncio.Queue()

    async def next(self, what="a message"):
        """The next `Topic`, `Message` or `Gap`; the latter two have the topic's `name` too."""
        item = await within(self.client.timeout, f"{what} of {self.pattern!r}", self._queue.get())
        if isinstance(item, Exception):
            self._queue.put_nowait(item)
            raise item
        if item.kind == "Topic":
            self.topics[item.name] = Record("Resume", topic=item.name, epoch=item.epoch, next=item.next)
        else:
            self.topics[item.name]["next"] = (item.last if item.kind == "Gap" else item.sequence) + 1
        return item

    async def message(self, what="a message"):
        """The next `Message`. A gap before it is an error."""
        while (item := await self.next(what)).kind == "Topic":
            pass
        if item.kind != "Message":
            raise AssertionError(f"{item} instead of a message")
        return item

    def nothing_more(self):
        """Whether all that has arrived has been taken."""
        return self._queue.empty()

    def resume(self):
        """The start with which another session goes on exactly after what `next` has returned."""
        return Record("Resume", since=self.since, topics=[Record("Resume", **t) for t in self.topics.values()])

    def take(self, frame):
        if self._over and not self._given_up:
            raise Defect(f"{frame} after the end of its subscription")
        if self._over:
            return
        if frame.kind == "Topic":
            if frame.id in self._by_id:
                raise Defect(f"{frame} comes twice")
            self._by_id[frame.id] = Record("Topic", **frame)
        elif frame.kind in ("Message", "Gap"):
            if frame.topic not in self._by_id:
                raise Defect(f"{frame} before its topic")
            topic = self._by_id[frame.topic]
            first, last = (frame.first, frame.last) if frame.kind == "Gap" else (frame.sequence, frame.sequence)
            if first != topic.next or last < first:
                raise Defect(f"{frame} where {topic.next} of {topic.name!r} is next")
            topic.next = last + 1
            frame["name"] = topic.name
        else:
            raise Defect(f"{frame} on the stream of a subscription")
        self._queue.put_nowait(frame)

    def fail(self, error):
        self._queue.put_nowait(error)

    def give_up(self):
        """It is unsubscribed: where there is one channel, what comes after its `Ended` is dropped."""
        self._given_up = True

    def end(self, ended, over):
        """`over`: nothing can arrive any more that was sent before."""
        self.ended.set_result(ended)
        self._over = over


class Answer:
    """The answer to a `Get`: its `Topic`, then its `Message`."""

    def __init__(self, client, request, topic):
        self.client, self.request, self.topic = client, request, topic
        self.announced = None

    def take(self, frame):
        expected = "Topic" if self.announced is None else "Message"
        if frame.kind != expected:
            raise Defect(f"{frame} where the {expected} that answers request {self.request} is next")
        if frame.kind == "Topic":
            if frame.name != self.topic:
                raise Defect(f"{frame} answers a Get of {self.topic!r}")
            self.announced = frame
            return
        if (frame.topic, frame.sequence) != (self.announced.id, self.announced.next):
            raise Defect(f"{frame} after {self.announced}")
        frame["name"] = self.topic
        self.client._answer(self.request, frame)


class Client:
    """One session. Methods that end in `_now` send at once and return a future of the answer."""

    def __init__(self, transport, producer, timeout):
        self.transport, self.producer, self.timeout = transport, producer or Producer(), timeout
        self.goodbye = None
        self.answers = 0
        self.gone = self.future()
        self.welcome = self.future()
        self.control = Stream(transport, unidirectional=False)
        self._limit = CONTROL_LIMIT
        self._message_limit = 2 * CONTROL_LIMIT
        self._readers = {}
        self._routes = {self.control._id: self._take_channel if transport.ONE_CHANNEL else self._take_control}
        self._current = None
        self.heard = None
        """Set to a list, it gets every frame that comes on the control stream or the one channel."""
        self._waiting = {}
        self._subscriptions = {}
        self._gets = {}
        self._aliases = {}
        self._publishing = None
        self._request = 0
        transport.on_data, transport.on_reset, transport.on_closed = self._on_data, self._on_reset, self._on_closed

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, host, port, certificate_sha256, transport="quic", producer=None, hello=True, timeout=30.0):
        """Dials, says hello and waits for the welcome; without `hello`, leaves all of that to the caller."""
        dialling = TRANSPORTS[transport].dial(host, port, certificate_sha256)
        self = cls(await within(timeout, f"a {transport} connection", dialling), producer, timeout)
        try:
            if hello:
                self.hello_now()
                await self.wait("the Welcome", self.welcome)
            yield self
        finally:
            if not self.gone.done():
                self.leave()
            self.transport.end()

    def future(self):
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever does not ask may go
        return future

    async def wait(self, what, future):
        return await within(self.timeout, what, asyncio.shield(future))

    def leave(self):
        """Says goodbye and closes. Whoever wants receipts has waited for them."""
        self.control.send("Goodbye", code=CODES["DONE"], reason="")
        self.transport.leave(CODES["DONE"], "")
        self._on_closed(CODES["DONE"], "we have left")

    # Requests.

    def hello_now(self, version=VERSION, agent="thirdparty/1"):
        self.control.send("Hello", version=version, producer=self.producer.id, token=None, agent=agent)
        return self.welcome

    def publish_now(self, topic, payload, number=None, stamp=0, stream=None):
        number = self.producer.number(topic) if number is None else number
        alias = self._aliases.setdefault(topic, len(self._aliases) + 1)
        if stream is None and self.transport.ONE_CHANNEL:
            stream = self.control
        own = stream is None and len(payload) > SMALL
        if own:
            stream = Stream(self.transport)
        elif stream is None:
            stream = self._publishing = self._publishing or Stream(self.transport)
        if alias not in stream.declared:
            stream.declared.add(alias)
            stream.send("Topic", alias=alias, name=topic)
        stream.send("Publish", alias=alias, number=number, stamp=stamp, payload=payload)
        if own:
            stream.write(b"", end=True)
        return self._wait_for((alias, number))

    async def publish(self, topic, payload, **options):
        return await self.wait(f"a receipt for {topic!r}", self.publish_now(topic, payload, **options))

    def subscribe_now(self, pattern, start="New", lag="Oldest", delivery="Ordered"):
        """The subscription, and a future of its `Subscribed`."""
        request = self._next_request()
        subscription = self._subscriptions[request] = Subscription(self, request, pattern)
        if isinstance(start, Record) and start.kind == "Resume":
            subscription.since = start.since
            subscription.topics = {known.topic: Record("Resume", **known) for known in start.topics}
        self.control.send(
            "Subscribe", request=request, filter=pattern, start=start, delivery=delivery, lag=lag, deadline=0
        )
        subscribed = self._wait_for(request)
        keep = start == "All" or (isinstance(start, Record) and start.kind == "Resume")
        if not keep:
            subscribed.add_done_callback(lambda done: self._since(subscription, done))
        return subscription, subscribed

    async def subscribe(self, pattern, start="New", lag="Oldest", delivery="Ordered"):
        subscription, subscribed = self.subscribe_now(pattern, start, lag, delivery)
        await self.wait(f"Subscribed for {pattern!r}", subscribed)
        return subscription

    async def unsubscribe(self, subscription):
        """Ends a subscription, and returns its `Ended`."""
        return await self.wait("Ended", self.unsubscribe_now(subscription))

    def unsubscribe_now(self, subscription):
        subscription.give_up()
        self.control.send("Unsubscribe", subscription=subscription.request)
        return subscription.ended

    def get_now(self, topic, which="Latest"):
        request = self._next_request()
        self._gets[request] = Answer(self, request, topic)
        self.control.send("Get", request=request, topic=topic, which=which)
        return self._wait_for(request)

    async def get(self, topic, which="Latest"):
        """One `Message` of the cache."""
        return await self.wait(f"the answer to Get {topic!r}", self.get_now(topic, which))

    async def top(self, topic, k=10):
        request = self._next_request()
        self.control.send("Top", request=request, topic=topic, k=k)
        return (await self.wait(f"the Top of {topic!r}", self._wait_for(request))).entries

    async def ping(self):
        request = self._next_request()
        self.control.send("Ping", request=request)
        return await self.wait("a Pong", self._wait_for(request))

    # What comes.

    def _next_request(self):
        self._request += 1
        return self._request

    def _wait_for(self, key):
        future = self._waiting[key] = self.future()
        if self.gone.done():
            future.set_exception(self.gone.result())
        return future

    def _answer(self, key, frame, error=None):
        future = self._waiting.pop(key, None)
        if future is None:
            raise Defect(f"{frame} answers nothing that was asked")
        self.answers += 1
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(frame)

    def _since(self, subscription, subscribed):
        if subscribed.exception() is None:
            subscription.since = Record(
                "Position", run=self.welcome.result().run, position=subscribed.result().position
            )

    def _on_data(self, stream, data, end):
        reader = self._readers.setdefault(stream, FrameReader("client"))
        try:
            if data is None:
                raise Defect("a text message")
            if self.transport.ONE_CHANNEL and len(data) > self._message_limit:
                raise Defect(f"a message of {len(data)} bytes")
            reader.limit = self._limit
            for frame in reader.feed(data):
                reader.limit = self._limit
                if self.heard is not None and stream == self.control._id:
                    self.heard.append(frame)
                self._routes.setdefault(stream, self._take_first)(stream, frame)
            if end:
                reader.finish()
        except (Malformed, TooLarge, Defect) as error:
            self.leave_with(error)

    def leave_with(self, error):
        """The daemon has done wrong: everything that waits learns of it."""
        if not self.gone.done():
            self.transport.leave(CODES["MALFORMED"], str(error))
            self._give_up(error)

    def _on_reset(self, stream, code):
        for subscription in self._subscriptions.values():
            if subscription.stream == stream:
                subscription.reset_code = code_name(code)

    def _on_closed(self, code, reason):
        self._give_up(Gone(code, reason, self.goodbye))

    def _give_up(self, error):
        if self.gone.done():
            return
        self.gone.set_result(error)
        for future in [self.welcome, *self._waiting.values(), *(s.ended for s in self._subscriptions.values())]:
            if not future.done():
                future.set_exception(error)
        for subscription in self._subscriptions.values():
            subscription.fail(error)

    def _take_first(self, stream, frame):
        if frame.kind != "For":
            raise Defect(f"a stream begins with {frame}")
        asker = self._asker(frame)
        if isinstance(asker, Subscription):
            if asker.stream is not None:
                raise Defect(f"a second stream for request {frame.request}")
            asker.stream = stream
        self._routes[stream] = lambda _, frame: asker.take(frame)

    def _take_channel(self, channel, frame):
        """Everything is on the one channel: `For` says whose the frames are that follow, up to the next `For`."""
        if frame.kind == "For":
            self._current = self._asker(frame)
        elif frame.kind not in ("Topic", "Message", "Gap"):
            self._take_control(channel, frame)
        elif self._current is None:
            raise Defect(f"{frame} before any For")
        elif self.goodbye is not None:
            raise Defect(f"{frame} after the Goodbye")
        else:
            self._current.take(frame)

    def _asker(self, frame):
        asker = self._subscriptions.get(frame.request) or self._gets.get(frame.request)
        if asker is None:
            raise Defect(f"{frame}, which was not asked")
        return asker

    def _take_control(self, _, frame):
        if self.goodbye is not None:
            raise Defect(f"{frame} after the Goodbye")
        if not self.welcome.done() and frame.kind not in ("Welcome", "Goodbye"):
            raise Defect(f"{frame} before the Welcome")
        match frame.kind:
            case "Welcome":
                self.welcome.set_result(frame)
                self._limit = max(CONTROL_LIMIT, frame.limits.payload + PAYLOAD_OVERHEAD)
                self._message_limit = frame.limits.payload + MESSAGE_OVERHEAD
            case "Receipt":
                self._answer((frame.alias, frame.number), frame)
            case "Rejected":
                self._answer((frame.alias, frame.number), frame, Refused(frame))
            case "Subscribed" | "Top" | "Pong":
                self._answer(frame.request, frame)
            case "Failed":
                subscription = self._subscriptions.get(frame.request)
                if frame.request in self._waiting:
                    self._answer(frame.request, frame, Refused(frame))
                elif subscription is not None and not subscription.ended.done():
                    subscription.ended.set_exception(Refused(frame))
            case "Ended":
                self._subscriptions[frame.request].end(frame, over=self.transport.ONE_CHANNEL)
            case "Goodbye":
                self.goodbye = frame
                if self.transport.client_closes:
                    self.transport.leave(CODES["DONE"], "")


def digest(payload):
    return blake3(payload).digest()
