"""A client of weir/1, over raw QUIC, WebTransport or WebSocket, written from docs/protocol.md alone.

    async with Client.connect("127.0.0.1", 4433, certificate_sha256) as client:
        receipt = await client.publish("demo/a", b"hello")
        subscription = await client.subscribe("demo/**", start="All")
        message = await subscription.message()

Every wait ends after `timeout` seconds with a `TimeoutError` that says what did not come.
"""

import asyncio
import contextlib
import math
import secrets

from blake3 import blake3

import names
from codec import FrameReader, Malformed, Record, TooLarge, encode
from transport import TRANSPORTS

VERSION = 1
MESSAGE_LIMIT = 1 << 20
"""Length of the longest message of WebSocket that the daemon may send."""

SMALL = CHUNK = 64 * 1024
"""Payloads above this are large: they come and go in parts, the parts no longer than this."""

PART = CHUNK - 16
"""The length of the parts that the daemon likes best."""

HOLES = 64
"""How many holes a `Repair` may name, and how many sequences in all where it is in a datagram."""

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


class Assembly:
    """Puts the large messages of a stream, or of a request, together: one at a time."""

    def __init__(self, limit):
        self._limit = limit
        self.begun = None
        """The `Begin` of the one that is arriving."""
        self._bytes = b""

    def take(self, frame):
        """What is to be made of a frame: a `Message` for the `End` of one, nothing for its other parts."""
        if frame.kind == "Message" and len(frame.payload) > SMALL:
            raise Defect(f"a Message of {len(frame.payload)} bytes")
        if frame.kind not in ("Begin", "Chunk", "End", "Abort"):
            return frame
        if frame.kind == "Begin":
            if self.begun is not None:
                raise Defect(f"{frame} before the end of {self.begun}")
            if not SMALL < frame.size <= self._limit:
                raise Defect(f"{frame} is not large, or too large")
            self.begun, self._bytes = frame, bytearray()
            return None
        if self.begun is None:
            raise Defect(f"{frame} without a Begin")
        if frame.kind == "Chunk":
            self._bytes += frame.bytes
            if not 1 <= len(frame.bytes) <= CHUNK or len(self._bytes) > self.begun.size:
                raise Defect(f"a Chunk of {len(frame.bytes)} bytes, with which there are {len(self._bytes)}")
            return None
        begun, payload = self.begun, bytes(self._bytes)
        self.begun, self._bytes = None, b""
        if frame.kind == "Abort":
            return Record("Abort", code=frame.code, topic=begun.topic, sequence=begun.sequence)
        if len(payload) != begun.size or digest(payload) != frame.digest:
            raise Defect(f"{len(payload)} bytes of {begun} that {frame} does not fit")
        return Record(
            "Message",
            topic=begun.topic,
            sequence=begun.sequence,
            count=frame.count,
            stamp=begun.stamp,
            payload=payload,
        )


class Subscription:
    """What a subscription has received. Checks what the daemon promises of the sequences."""

    def __init__(self, client, request, pattern):
        self.client, self.request, self.pattern = client, request, pattern
        self.heard = None
        """Set to a list, it gets every frame with the stream that it came on, or `DATAGRAM`."""
        self.since = Record("Position", run=0, position=0)
        self.topics = {}
        self.stream = None
        self.reset_code = None
        self.accepted = None
        self.aborted = []
        """The names of the codes of what was aborted."""
        self.ended = client.future()
        self._by_id = {}
        self._over = self._given_up = False
        self._queue = asyncio.Queue()
        self._last = None
        self.marks = 0
        """How many `Mark`s have come."""

    async def next(self, what="a message"):
        """The next `Topic`, `Message` or `Gap`; the latter two have the topic's `name` too."""
        item = await within(self.client.timeout, f"{what} of {self.pattern!r}", self._queue.get())
        if isinstance(item, Exception):
            self._queue.put_nowait(item)
            raise item
        self._deal_with(item)
        if (mark := item.pop("mark", None)) is not None:
            self._deal_with_mark(mark)
        return item

    def _put(self, item):
        self._queue.put_nowait(item)
        self._last = item

    def _take_mark(self, mark):
        """It is dealt with when all that came before it has been."""
        self.marks += 1
        if self._queue.empty():
            self._deal_with_mark(mark)
        else:
            self._last["mark"] = mark

    def _deal_with_mark(self, mark):
        run = self.client.welcome.result().run
        if self.since.run == run and mark.position < self.since.position:
            raise Defect(f"{mark} below {self.since}")
        self.since = Record("Position", run=run, position=mark.position)
        self.topics = {name: topic for name, topic in self.topics.items() if self._misses(name, mark)}

    def _misses(self, name, mark):
        """Whether something of a topic is still missing that stands before a mark."""
        return False

    def _deal_with(self, item):
        if item.kind == "Topic":
            self.topics[item.name] = Record("Resume", topic=item.name, epoch=item.epoch, next=item.next)
        else:
            self.topics[item.name]["next"] = (item.last if item.kind == "Gap" else item.sequence) + 1

    async def message(self, what="a message", aborted=False):
        """The next `Message`. A gap before it is an error, but, with `aborted`, for what was aborted."""
        while (item := await self.next(what)).kind == "Topic" or (
            aborted and item.kind == "Gap" and item.cause.kind == "Aborted"
        ):
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

    def begin_stream(self, stream):
        """There is a stream for this request. Returns what takes its frames."""
        if self.stream is not None:
            raise Defect(f"a second stream for request {self.request}")
        self.stream = stream
        return self.take

    def take(self, frame):
        if self.heard is not None:
            self.heard.append((self.stream, frame))
        if self._over and not self._given_up:
            raise Defect(f"{frame} after the end of its subscription")
        if self._over:
            return
        if frame.kind == "Topic":
            if frame.id in self._by_id:
                # It may come again, with what is next then.
                known = self._by_id[frame.id]
                if (frame.name, frame.epoch, frame.next) != (known.name, known.epoch, known.next):
                    raise Defect(f"{frame} comes again, and not as {known}")
                return
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
        elif frame.kind == "Mark":
            return self._take_mark(frame)
        elif frame.kind == "Abort":
            self.aborted.append(code_name(frame.code))
            return
        else:
            raise Defect(f"{frame} on the stream of a subscription")
        self._put(frame)

    def fail(self, error):
        self._queue.put_nowait(error)

    def give_up(self):
        """It is unsubscribed: where there is one channel, what comes after its `Ended` is dropped."""
        self._given_up = True

    def end(self, ended, over):
        """`over`: nothing can arrive any more that was sent before."""
        self.ended.set_result(ended)
        self._over = over


DATAGRAM = "datagram"
"""Where a frame comes that is on no stream."""


class Had:
    """Which sequences of a topic have been had, or told in a gap: those below `next`, and those `above`."""

    def __init__(self, next, above=()):
        self.next, self.above = next, {sequence for sequence in above if sequence >= next}
        self._sweep()

    def __contains__(self, sequence):
        return sequence < self.next or sequence in self.above

    def add(self, sequence):
        self.above.add(sequence)
        self._sweep()

    def _sweep(self):
        while self.next in self.above:
            self.above.remove(self.next)
            self.next += 1


class Hole:
    """A sequence that is missing: since when, how often it was asked for, and when it is to be asked for (again)."""

    def __init__(self, seen, due):
        self.seen, self.due, self.asked = seen, due, 0


class Scattered(Subscription):
    """What an `Unordered` or `Realtime` subscription has received: in any order, several times, with holes that it
    asks for. What `next` returns comes once."""

    def __init__(self, client, request, pattern, delivery, deadline, repairs, had):
        super().__init__(client, request, pattern)
        self.deadline = deadline / 1000
        self.streams = []
        self.repeated = 0
        """Messages that had been had."""
        self.repairs = 0
        """Holes asked for, as often as they were."""
        self._asked = set()
        self._repairs = repairs and (delivery == "Realtime" or client.transport.client_closes)
        self._earlier = dict(had or {})
        self._dealt = {}
        self._timer = None

    def had(self):
        """What to give, beside `resume`, to a subscription that goes on in another session: what it is to drop."""
        return {**self._earlier, **{name: (epoch, set(had.above)) for name, (epoch, had) in self._dealt.items()}}

    def _deal_with(self, item):
        if item.kind == "Topic":
            self._dealt[item.name] = item.epoch, self._begin(item)
        else:
            first, last = (item.first, item.last) if item.kind == "Gap" else (item.sequence, item.sequence)
            for sequence in range(first, last + 1):
                self._dealt[item.name][1].add(sequence)
        epoch, had = self._dealt[item.name]
        self.topics[item.name] = Record("Resume", topic=item.name, epoch=epoch, next=had.next)

    def _misses(self, name, mark):
        newest, (_, had) = mark.newest.get(name), self._dealt.get(name, (None, None))
        if newest is None:
            return bool(self._earlier.get(name, (None, ()))[1])
        return had is None or had.next <= newest

    def _begin(self, topic):
        epoch, above = self._earlier.get(topic.name, (None, ()))
        return Had(topic.next, above if epoch == topic.epoch else ())

    def begin_stream(self, stream):
        self.streams.append(stream)
        told = set()

        def take(frame):
            if frame.kind == "Topic":
                if frame.id in told:
                    raise Defect(f"{frame} comes twice on a stream")
                told.add(frame.id)
            elif frame.kind not in ("Message", "Gap", "Head", "Mark"):
                raise Defect(f"{frame} on the stream of a subscription")
            elif frame.kind != "Mark" and frame.topic not in told and not (frame.kind == "Gap" and frame.topic in self._asked):
                raise Defect(f"{frame} before its topic on the same stream")
            self.take(frame, stream)

        return take

    def take(self, frame, way):
        if self.heard is not None:
            self.heard.append((way, Record(frame.kind, **frame)))
        if self._given_up:
            return
        if frame.kind == "Topic":
            self._take_topic(frame)
        elif frame.kind == "Mark":
            self._take_mark(
                Record("Mark", **frame, newest={topic.name: topic.newest for topic in self._by_id.values()})
            )
        elif frame.topic not in self._by_id:
            return  # in a datagram, before the Topic; or a gap in what never was
        elif frame.kind == "Message":
            self._take_message(frame)
        elif frame.kind == "Gap":
            self._take_gap(frame)
        else:
            self._told_of(self._by_id[frame.topic], frame.sequence)
        self._look_again()

    def _take_topic(self, frame):
        known = self._by_id.get(frame.id)
        if known is None:
            if not names.matches(self.pattern, frame.name):
                raise Defect(f"{frame} for {self.pattern!r}")
            had = self._begin(frame)
            known = self._by_id[frame.id] = Record("Topic", **frame, begin=frame.next, had=had)
            known.update(newest=frame.next - 1, holes={}, heard=self._now())
            self._put(frame)
        elif (known.name, known.epoch, known.begin) != (frame.name, frame.epoch, frame.next):
            raise Defect(f"{frame} where it was {known.name!r}, {known.epoch}, {known.begin}")

    def _take_message(self, frame):
        topic = self._by_id[frame.topic]
        if frame.sequence < topic.begin:
            raise Defect(f"{frame} where {topic.begin} of {topic.name!r} is the first")
        if frame.sequence in topic.had:
            self.repeated += 1
        else:
            topic.had.add(frame.sequence)
            topic.holes.pop(frame.sequence, None)
            frame["name"] = topic.name
            self._put(frame)
        self._told_of(topic, frame.sequence)

    def _take_gap(self, frame):
        """What of it has come all the same is no gap."""
        topic = self._by_id[frame.topic]
        if frame.first < topic.begin or frame.last < frame.first:
            raise Defect(f"{frame} where {topic.begin} of {topic.name!r} is the first")
        self._give_up_holes(topic, [n for n in range(frame.first, frame.last + 1) if n not in topic.had], frame.cause)
        self._told_of(topic, frame.last)

    def _give_up_holes(self, topic, sequences, cause):
        for sequence in sequences:
            topic.had.add(sequence)
            topic.holes.pop(sequence, None)
        for first, last in ranges(sequences):
            self._put(Record("Gap", topic=topic.id, first=first, last=last, cause=cause, name=topic.name))

    def _told_of(self, topic, sequence):
        """There is a message with this sequence: those before it that have not come are holes."""
        if sequence < topic.newest:
            return
        now, due = self._now(), topic.heard + min(max(self._rtt / 8, 0.001), 0.006) + 0.002
        for missing in range(topic.newest + 1, sequence + 1):
            if missing not in topic.had:
                topic.holes[missing] = Hole(now, due)
        topic["newest"], topic["heard"] = sequence, now

    # Repair.

    @property
    def _rtt(self):
        return self.client.transport.rtt

    def _now(self):
        return asyncio.get_running_loop().time()

    def _look_again(self):
        """Sets the timer for what is to be done next about the holes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._repairs and not self.ended.done():
            times = [
                min(hole.due, self._ends(hole)) for topic in self._by_id.values() for hole in topic.holes.values()
            ]
            if times:
                self._timer = asyncio.get_running_loop().call_at(min(times), self._look_after_holes)

    def _ends(self, hole):
        return hole.seen + max(self.deadline - self._rtt / 2, 0) if self.deadline else float("inf")

    def _look_after_holes(self):
        now = self._now()
        for topic in self._by_id.values():
            late = [n for n, hole in topic.holes.items() if self._ends(hole) <= now]
            self._give_up_holes(topic, sorted(late), Record("Late"))
            for n, hole in topic.holes.items():
                if hole.due <= now and self.client.arriving(self.request, topic.id, n):
                    hole.due = now + self._rtt + 0.05  # no need to ask
            due = sorted(n for n, hole in topic.holes.items() if hole.due <= now)
            in_datagram = [n for n in due if topic.holes[n].asked < 2][:HOLES]
            if in_datagram:
                self.ask(topic.id, ranges(in_datagram), in_datagram=True)
                for n in in_datagram:
                    hole = topic.holes[n]
                    hole.asked, hole.due = hole.asked + 1, now + self._rtt * 5 / 4 + 0.01
            # What is too much for this time is due again then.
            later = now + 1 + 4 * self._rtt
            holes = ranges([n for n in due if n not in in_datagram])
            if holes:
                self.ask(topic.id, holes[:HOLES])
            for at, (first, last) in enumerate(holes):
                for n in range(first, last + 1):
                    topic.holes[n].due = later if at < HOLES else now + self._rtt * 5 / 4 + 0.01
        self._look_again()

    def ask(self, topic, holes, in_datagram=False):
        """Asks for holes of a topic, whether they are or not."""
        self.repairs += sum(last - first + 1 for first, last in holes)
        self._asked.add(topic)
        self.client.repair(self.request, topic, holes, in_datagram)

    def end(self, ended, over):
        super().end(ended, over)
        self._look_again()

    def fail(self, error):
        super().fail(error)
        self._repairs = False
        self._look_again()


def ranges(sequences):
    """Pairs of first and last, of sequences in order."""
    found = []
    for sequence in sequences:
        if found and found[-1][1] == sequence - 1:
            found[-1] = found[-1][0], sequence
        else:
            found.append((sequence, sequence))
    return found


class Answer:
    """The answer to a `Get`: its `Topic`, then its `Message`."""

    def __init__(self, client, request, topic):
        self.client, self.request, self.topic = client, request, topic
        self.announced = None

    def begin_stream(self, stream):
        return self.take

    def take(self, frame):
        if frame.kind == "Abort":
            return self.client._answer(self.request, frame, Refused(Record("Failed", code=frame.code, reason="")))
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
        self._readers = {}
        self._assemblies = {}
        self._routes = {self.control._id: self._take_channel if transport.ONE_CHANNEL else self._take_control}
        self._current = None
        self.heard = None
        """Set to a list, it gets every frame that comes on the control stream or the one channel."""
        self._waiting = {}
        self._subscriptions = {}
        self._gets = {}
        self._aliases = {}
        self._publishing = None
        self._in_datagrams = {}
        self._known_aliases = set()
        self._request = 0
        self.datagrams = None
        """A `Network` for what is in the datagrams that come."""
        self.acknowledged = []
        """Every `Acknowledge`."""
        self.finished = set()
        """The daemon's streams that have ended."""
        self.resets = {}
        """Those that were reset: with which code."""
        transport.on_data, transport.on_datagram = self._on_data, self._on_datagram
        transport.on_reset, transport.on_closed = self._on_reset, self._on_closed

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

    def publish_now(self, topic, payload, number=None, stamp=0, stream=None, part=None):
        """With `part`, in parts of that length; large payloads are sent so anyway, if no stream is given."""
        number = self.producer.number(topic) if number is None else number
        answer = self._wait_for((self.alias(topic), number))
        if part is None and (len(payload) <= SMALL or stream is not None):
            self._publish(topic, payload, number, stamp, stream)
        else:
            stream = self.begin(topic, len(payload), number, stamp)
            for part in parts(payload, part or PART):
                stream.send("Chunk", bytes=part)
            stream.send("End", digest=digest(payload))
            self.finish(stream)
        return answer

    def begin(self, topic, size, number, stamp=0):
        """The stream on which the rest of a publication goes."""
        stream = self.control if self.transport.ONE_CHANNEL else Stream(self.transport)
        self._declare(topic, stream)
        stream.send("Begin", alias=self.alias(topic), number=number, stamp=stamp, size=size)
        return stream

    def begin_now(self, topic, size, number=None, stamp=0):
        """The same, and a future of the answer."""
        number = self.producer.number(topic) if number is None else number
        answer = self._wait_for((self.alias(topic), number))
        return self.begin(topic, size, number, stamp), answer

    def finish(self, stream):
        """Ends a stream of one's own. The one channel goes on."""
        if stream is not self.control:
            stream.write(b"", end=True)

    def alias(self, topic):
        return self._aliases.setdefault(topic, len(self._aliases) + 1)

    def _publish(self, topic, payload, number, stamp, stream=None):
        alias = self.alias(topic)
        if stream is None:
            stream = self.control if self.transport.ONE_CHANNEL else self._publish_stream()
        self._declare(topic, stream)
        stream.send("Publish", alias=alias, number=number, stamp=stamp, payload=payload)

    def _publish_stream(self):
        self._publishing = self._publishing or Stream(self.transport)
        return self._publishing

    def _declare(self, topic, stream):
        alias = self.alias(topic)
        if alias not in stream.declared:
            stream.declared.add(alias)
            stream.send("Topic", alias=alias, name=topic)

    async def publish(self, topic, payload, **options):
        return await self.wait(f"a receipt for {topic!r}", self.publish_now(topic, payload, **options))

    def publish_in_datagram_now(self, topic, payload, number=None, stamp=0):
        """The answer is an `Acknowledge` that has this number, or what comes from the publish stream."""
        number = self.producer.number(topic) if number is None else number
        alias = self.alias(topic)
        declaration = encode(Record("Topic", alias=alias, name=topic)) if alias not in self._known_aliases else b""
        data = declaration + encode(Record("Publish", alias=alias, number=number, stamp=stamp, payload=payload))
        if len(data) > self.transport.room:
            return self.publish_now(topic, payload, number, stamp)
        self._declare(topic, self._publish_stream())
        answer = self.expect(alias, number)
        rtt, later = self.transport.rtt, asyncio.get_running_loop().call_later
        self.transport.send_datagram(data)
        timers = [later(rtt * 3 / 2 + 0.01, self._publish, topic, payload, number, stamp)]
        if rtt > 0.005:
            timers.append(later(min(max(rtt / 10, 0.002), 0.005), self.transport.send_datagram, data))
        self._in_datagrams[alias, number] = timers
        return answer

    def expect(self, alias, number):
        """The answer to a publication in a datagram, which may come several times."""
        self._in_datagrams[alias, number] = []
        return self._wait_for((alias, number))

    async def publish_in_datagram(self, topic, payload, **options):
        return await self.wait(
            f"an answer for {topic!r}", self.publish_in_datagram_now(topic, payload, **options)
        )

    def datagram(self, *frames):
        """Sends a datagram of these frames."""
        self.transport.send_datagram(b"".join(map(encode, frames)))

    def subscribe_now(
        self, pattern, start="New", lag="Oldest", delivery="Ordered", deadline=0, repairs=True, had=None
    ):
        """The subscription, and a future of its `Subscribed`. `repairs`: whether it asks for what is missing."""
        request = self._next_request()
        if delivery == "Ordered" or self.transport.ONE_CHANNEL:
            subscription = Subscription(self, request, pattern)
        else:
            subscription = Scattered(self, request, pattern, delivery, deadline, repairs, had)
        self._subscriptions[request] = subscription
        if isinstance(start, Record) and start.kind == "Resume":
            subscription.since = start.since
            subscription.topics = {known.topic: Record("Resume", **known) for known in start.topics}
        self.control.send(
            "Subscribe", request=request, filter=pattern, start=start, delivery=delivery, lag=lag, deadline=deadline
        )
        subscribed = self._wait_for(request)
        keep = start == "All" or (isinstance(start, Record) and start.kind == "Resume")
        if not keep:
            subscribed.add_done_callback(lambda done: self._since(subscription, done))
        return subscription, subscribed

    async def subscribe(self, pattern, start="New", **options):
        subscription, subscribed = self.subscribe_now(pattern, start, **options)
        await self.wait(f"Subscribed for {pattern!r}", subscribed)
        return subscription

    async def unsubscribe(self, subscription):
        """Ends a subscription, and returns its `Ended`."""
        return await self.wait("Ended", self.unsubscribe_now(subscription))

    def unsubscribe_now(self, subscription):
        subscription.give_up()
        self.control.send("Unsubscribe", subscription=subscription.request)
        return subscription.ended

    def repair(self, subscription, topic, holes, in_datagram=False):
        frame = Record("Repair", subscription=subscription, topic=topic, holes=holes)
        if in_datagram and self.transport.room:
            self.datagram(frame)
        else:
            self.control.send("Repair", **frame)

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
        for timer in self._in_datagrams.get(key, ()):
            timer.cancel()
        if future is None and key in self._in_datagrams:
            return  # several times sent, several times answered
        if future is None:
            raise Defect(f"{frame} answers nothing that was asked")
        self.answers += 1
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(frame)

    def _since(self, subscription, subscribed):
        # Its stream may come first, and a mark on it.
        if subscribed.exception() is None and not subscription.marks:
            subscription.since = Record(
                "Position", run=self.welcome.result().run, position=subscribed.result().position
            )

    def _on_data(self, stream, data, end):
        if self.gone.done():
            return
        reader = self._readers.setdefault(stream, FrameReader("client"))
        try:
            if data is None:
                raise Defect("a text message")
            if self.transport.ONE_CHANNEL and len(data) > MESSAGE_LIMIT:
                raise Defect(f"a message of {len(data)} bytes")
            for frame in reader.feed(data):
                if self.heard is not None and stream == self.control._id:
                    self.heard.append(frame)
                self._routes.setdefault(stream, self._take_first)(stream, frame)
            if end:
                reader.finish()
                self.finished.add(stream)
        except (Malformed, TooLarge, Defect) as error:
            self.leave_with(error)

    def _on_datagram(self, data):
        if self.gone.done():
            return
        try:
            for data in [data] if self.datagrams is None else self.datagrams.carry(data):
                self._take_datagram(data)
        except (Malformed, TooLarge, Defect) as error:
            self.leave_with(error)

    def _take_datagram(self, data):
        reader = FrameReader("client")
        frames = list(reader.feed(data))
        reader.finish()
        asker = self._bare()
        for at, frame in enumerate(frames):
            if frame.kind == "For" and at == 0:
                asker = self._subscriptions.get(frame.request)
                if asker is not None and not isinstance(asker, Scattered):
                    raise Defect(f"{frame} in a datagram")
            elif frame.kind == "Acknowledge":
                self._take_acknowledge(frame)
            elif frame.kind not in ("Topic", "Message"):
                raise Defect(f"{frame} in a datagram")
            elif asker is not None:
                asker.take(frame, DATAGRAM)

    def _bare(self):
        """Whose a datagram is that does not say it; `None` if that is not known, as an answer is still to come."""
        for _, subscription in sorted(self._subscriptions.items()):
            if isinstance(subscription, Scattered) and subscription.accepted is not False:
                return subscription if subscription.accepted else None
        return None

    def _take_acknowledge(self, frame):
        self.acknowledged.append(frame)
        self._known_aliases.add(frame.alias)
        for alias, number in list(self._in_datagrams):
            if alias == frame.alias and (alias, number) in self._waiting:
                beyond = number - frame.floor - 1
                if beyond < 0 or beyond < 64 and frame.seen >> beyond & 1:
                    self._answer((alias, number), frame)

    def leave_with(self, error):
        """The daemon has done wrong: everything that waits learns of it."""
        if not self.gone.done():
            self.transport.leave(CODES["MALFORMED"], str(error))
            self._give_up(error)

    def arriving(self, request, topic, sequence):
        """Whether this message is on its way on one of the request's streams."""
        begun = [assembly.begun for (asker, _), assembly in self._assemblies.items() if asker == request]
        return any(b is not None and (b.topic, b.sequence) == (topic, sequence) for b in begun)

    def _assembled(self, request, stream, frame):
        """The frame, or what it completes; nothing, if it is a part of something."""
        # A stream may come before the Welcome.
        limit = self.welcome.result().limits.payload if self.welcome.done() else math.inf
        return self._assemblies.setdefault((request, stream), Assembly(limit)).take(frame)

    def _on_reset(self, stream, code):
        self.resets[stream] = code_name(code)
        for key in [key for key in self._assemblies if key[1] == stream]:
            del self._assemblies[key]
        for subscription in self._subscriptions.values():
            if subscription.stream == stream:
                subscription.reset_code = code_name(code)

    def _on_closed(self, code, reason):
        self._give_up(Gone(code, reason, self.goodbye))

    def _give_up(self, error):
        if self.gone.done():
            return
        self.gone.set_result(error)
        for timer in [timer for timers in self._in_datagrams.values() for timer in timers]:
            timer.cancel()
        for future in [self.welcome, *self._waiting.values(), *(s.ended for s in self._subscriptions.values())]:
            if not future.done():
                future.set_exception(error)
        for subscription in self._subscriptions.values():
            subscription.fail(error)

    def _take_first(self, stream, frame):
        if frame.kind != "For":
            raise Defect(f"a stream begins with {frame}")
        request, take = frame.request, self._asker(frame).begin_stream(stream)

        def route(stream, frame):
            whole = self._assembled(request, stream, frame)
            if whole is not None:
                take(whole)

        self._routes[stream] = route

    def _take_channel(self, channel, frame):
        """Everything is on the one channel: `For` says whose the frames are that follow, up to the next `For`."""
        if frame.kind == "For":
            self._current = self._asker(frame)
        elif frame.kind not in ("Topic", "Message", "Begin", "Chunk", "End", "Abort", "Gap", "Head", "Mark"):
            self._take_control(channel, frame)
        elif self._current is None:
            raise Defect(f"{frame} before any For")
        elif self.goodbye is not None:
            raise Defect(f"{frame} after the Goodbye")
        else:
            whole = self._assembled(self._current.request, channel, frame)
            if whole is not None:
                self._current.take(whole)

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
            case "Receipt":
                self._answer((frame.alias, frame.number), frame)
            case "Rejected":
                self._answer((frame.alias, frame.number), frame, Refused(frame))
            case "Subscribed" | "Top" | "Pong":
                if frame.kind == "Subscribed" and frame.request in self._subscriptions:
                    self._subscriptions[frame.request].accepted = True
                self._answer(frame.request, frame)
            case "Failed":
                subscription = self._subscriptions.get(frame.request)
                if frame.request in self._waiting:
                    if subscription is not None:
                        subscription.accepted = False
                    self._answer(frame.request, frame, Refused(frame))
                elif subscription is not None and not subscription.ended.done():
                    subscription.ended.set_exception(Refused(frame))
            case "Ended":
                self._subscriptions[frame.request].end(frame, over=self.transport.ONE_CHANNEL)
            case "Goodbye":
                self.goodbye = frame
                if self.transport.client_closes:
                    self.transport.leave(CODES["DONE"], "")


def parts(payload, length):
    return [payload[at : at + length] for at in range(0, len(payload), length)]


def digest(payload):
    return blake3(payload).digest()
