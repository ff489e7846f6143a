"""All faces at once: raw QUIC, WebTransport, WebSocket and HTTP, publishing together, and each hearing the same."""

import asyncio
import base64
import collections
import contextlib
import json
import secrets

import pytest

from client import SMALL, digest
from support import scenario, sequence
from web import escape

ROUNDS, BURST = 12, 5
"""How often all publish at the same time, and how much each of them then does."""

SESSIONS = ["quic", "webtransport", "websocket"]
PUBLISHERS = [*SESSIONS, "plain websocket", "post", "post with key"]

PAYLOADS = [
    b"",
    b"said by all",
    None,  # one that nobody else says
    bytes(range(256)),
    secrets.token_bytes(64 * 1024 + 1),
    "grüß dich\r\n\n\u2028data: x\n".encode(),
    b"\0",
    ("ä" * 32 * 1024 + "\n").encode(),
]

Heard = collections.namedtuple("Heard", "topic sequence count stamp digest size")
"""What every subscriber is told of a message, whatever its face. The stamp names the publication."""


def heard(message):
    """A `Message` frame."""
    return Heard(
        message.name, message.sequence, message.count, message.stamp, digest(message.payload).hex(), len(message.payload)
    )


def heard_event(event):
    """A server-sent event."""
    assert event.kind == "message", event
    data = json.loads(event.data)
    assert ("payload" in data) != ("payload_base64" in data)
    payload = data.pop("payload").encode() if "payload" in data else base64.b64decode(data.pop("payload_base64"))
    found = Heard(**{**data, "stamp": data["stamp"] or 0})
    assert (found.digest, found.size) == (digest(payload).hex(), len(payload))
    return found


class Publication:
    def __init__(self, topic, publisher, n):
        self.publisher, self.n, self.round = publisher, n, n // BURST
        self.topic = [f"{topic}/shared", f"{topic}/shared/deep", f"{topic}/own/{PUBLISHERS.index(publisher)}"][n % 3]
        payload = PAYLOADS[n % len(PAYLOADS)]
        self.payload = f"{publisher} {n}".encode() if payload is None else payload
        self.stamp = 1 + PUBLISHERS.index(publisher) * 10_000 + n
        self.receipt = None

    def accepted(self, sequence, count, digest):
        self.receipt = Heard(self.topic, sequence, count, self.stamp, digest, len(self.payload))


async def publish_in_session(daemon, publications, barrier):
    transport = publications[0].publisher
    async with daemon.connect(transport) as client:
        for at in range(0, len(publications), BURST):
            await barrier.wait()
            burst = publications[at : at + BURST]
            receipts = [client.publish_now(p.topic, p.payload, stamp=p.stamp) for p in burst]
            for publication, receipt in zip(burst, receipts):
                receipt = await client.wait("a receipt", receipt)
                assert not receipt.duplicate
                publication.accepted(receipt.sequence, receipt.count, receipt.digest.hex())


async def post(daemon, publications, barrier):
    """One after another. With a key, everything is sent twice at the same time, and counts once."""
    keys = publications[0].publisher == "post with key"
    async with daemon.web().open() as web, daemon.web(secure=True).open() as other:
        for publication in publications:
            if publication.n % BURST == 0:
                await barrier.wait()
            topic, payload, stamp = publication.topic, publication.payload, publication.stamp
            if keys:
                key = secrets.token_hex(16)
                answers = await asyncio.gather(
                    web.publish(topic, payload, key, stamp), other.publish(topic, payload, key, stamp)
                )
                first, again = sorted(answers, key=lambda answer: answer["duplicate"])
                assert again == {**first, "duplicate": True}
            else:
                first = await web.publish(topic, payload, stamp=stamp)
            assert (first["topic"], first["size"], first["duplicate"]) == (topic, len(payload), False)
            publication.accepted(first["sequence"], first["count"], first["digest"])


async def publish_all(daemon, topic):
    """All publishers at once, round by round."""
    barrier = asyncio.Barrier(len(PUBLISHERS))
    publications = []
    async with asyncio.TaskGroup() as tasks:
        for publisher in PUBLISHERS:
            own = [Publication(topic, publisher, n) for n in range(ROUNDS * BURST)]
            publications += own
            tasks.create_task((post if "post" in publisher else publish_in_session)(daemon, own, barrier))
    return publications


END = b"the end"


async def listen(subscription):
    """Everything up to the end."""
    found = []
    while (message := await subscription.message(f"message {len(found)}", aborted=True)).payload != END:
        found.append(heard(message))
    return found


async def next_message(events):
    """What was sent twice at the same time, with one key, may have been begun twice, and given up once."""
    while (event := await events.next()).kind == "gap":
        assert json.loads(event.data)["cause"] == "aborted", event
    return event


async def listen_to_events(events):
    found = []
    while (event := heard_event(await next_message(events))).digest != digest(END).hex():
        found.append(event)
    return found


async def wander(daemon, pattern, ready, every):
    """Resumes its subscription on another face after each so many messages."""
    found, start, ended = [], "New", False
    faces = [*SESSIONS, "plain websocket"]
    while not ended:
        async with daemon.connect(faces[len(found) // every % len(faces)]) as client:
            subscription = await client.subscribe(pattern, start)
            ready.set()
            for _ in range(every):
                message = await subscription.message(f"message {len(found)}", aborted=True)
                if ended := message.payload == END:
                    break
                found.append(heard(message))
            start = subscription.resume()
    return found


async def reconnect(daemon, pattern, ready, every):
    """Reads events, drops the connection after each so many, whatever has arrived of the next, and goes on."""
    found, id, ended, connections = [], None, False, 0
    while not ended:
        async with daemon.web(secure=connections % 2 == 1).open() as web:
            connections += 1
            events = await web.events(pattern, last_event_id=id)
            if id is None:
                await events.begun()
                ready.set()
            for _ in range(every):
                event = heard_event(await next_message(events))
                if ended := event.digest == digest(END).hex():
                    break
                found.append(event)
            id = events.id
    return found, connections


def by_topic(messages):
    found = {}
    for message in messages:
        found.setdefault(message.topic, []).append(message)
    return found


def check(publications, listeners):
    """Every publication once, each topic in one order, with sequences and counts that follow from it. Over topics there
    is no such order: others overtake a large payload while it is arriving."""
    by_stamp = {publication.stamp: publication for publication in publications}
    first, order = next(iter(listeners.items()))
    assert sorted(message.stamp for message in order) == sorted(by_stamp), f"what {first} heard"
    for name, other in listeners.items():
        assert len(other) == len(order), f"{name} beside {first}"
        for topic, messages in by_topic(order).items():
            for n, (this, that) in enumerate(zip(messages, by_topic(other)[topic], strict=True)):
                assert this == that, f"message {n} of {topic} of {name} beside that of {first}"

    counts = collections.defaultdict(list)
    for messages in by_topic(order).values():
        sequences = [message.sequence for message in messages]
        assert sequences == sorted(set(sequences))
        for message in messages:
            publication = by_stamp[message.stamp]
            assert message == publication.receipt
            assert message.digest == digest(publication.payload).hex()
            counts[message.topic, message.digest, message.size].append(message.count)
        # Of what the order is known to be: a round is accepted before the next begins, and who sends on one channel, or
        # one after another, is handled in that order.
        rounds = [by_stamp[message.stamp].round for message in messages]
        assert rounds == sorted(rounds)
        for publisher in ("websocket", "plain websocket", "post", "post with key"):
            own = [by_stamp[m.stamp].n for m in messages if by_stamp[m.stamp].publisher == publisher]
            assert own == sorted(own), publisher
    for (_, _, size), counted in counts.items():
        # A large one has its sequence when it begins, and is counted when it ends.
        assert (sorted(counted) if size > SMALL else counted) == list(range(1, len(counted) + 1))
    assert max(map(len, counts.values())) > ROUNDS, "publishers have said the same"


@scenario
async def test_all_faces_hear_the_same(daemon, topic):
    pattern = f"{topic}/**"
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        listening = {}
        for face in SESSIONS:
            client = await stack.enter_async_context(daemon.connect(face))
            listening[face] = tasks.create_task(listen(await client.subscribe(pattern)))
        web = await stack.enter_async_context(daemon.web().open())
        events = await web.events(pattern)
        await events.begun()
        listening["events"] = tasks.create_task(listen_to_events(events))
        for name, listener, every in [("wandering", wander, 37), ("reconnecting", reconnect, 53)]:
            ready = asyncio.Event()
            listening[name] = tasks.create_task(listener(daemon, pattern, ready, every))
            await ready.wait()

        publications = await publish_all(daemon, topic)
        assert len(publications) == len(PUBLISHERS) * ROUNDS * BURST
        async with daemon.web().open() as other:
            await other.publish(f"{topic}/end", END)
        listeners = {name: await task for name, task in listening.items()}
        listeners["reconnecting"], connections = listeners["reconnecting"]
        assert connections > 5
        check(publications, listeners)

        # Who comes late has all of it from the cache, in the same order.
        late = {}
        for face in SESSIONS:
            client = await stack.enter_async_context(daemon.connect(face))
            late[face] = await listen(await client.subscribe(pattern, "All"))
        web = await stack.enter_async_context(daemon.web(secure=True).open())
        late["events"] = await listen_to_events(await web.events(pattern, from_="all"))
        check(publications, late)


@scenario
async def test_all_faces_get_and_rank_the_same(daemon, topic):
    payloads = [b"c", b"\xff", b"d", b"", b"c", b"d", b"d", b"d", b"c", b"\xff"]
    async with contextlib.AsyncExitStack() as stack:
        web = await stack.enter_async_context(daemon.web().open())
        clients = [await stack.enter_async_context(daemon.connect(face)) for face in SESSIONS]
        for n, payload in enumerate(payloads, 1):
            publisher = [*clients, web][n % 4]
            receipt = await publisher.publish(topic, payload)
            assert (receipt["sequence"], receipt["count"]) == (n, payloads[:n].count(payload))
        for n, payload in enumerate(payloads, 1):
            for client in clients:
                message = await client.get(topic, sequence(n))
                assert (message.payload, message.count) == (payload, payloads[:n].count(payload))
            status, headers, body = await web.request("GET", f"/v1/topics/{escape(topic)}?sequence={n}")
            assert (status, body, headers["etag"]) == (200, payload, f'"{digest(payload).hex()}"')
            assert headers["weir-count"] == str(payloads[:n].count(payload))
        ranking = [(digest(payload).hex(), payloads.count(payload)) for payload in (b"d", b"c", b"\xff", b"")]
        for client in clients:
            assert [(entry.digest.hex(), entry.count) for entry in await client.top(topic)] == ranking
        status, _, body = await web.request("GET", f"/v1/topics/{escape(topic)}/top")
        assert [(entry["digest"], entry["count"]) for entry in json.loads(body)["top"]] == ranking


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@scenario
async def test_events_go_on_after_the_first_id(daemon, topic, secure):
    """Nothing was heard yet when the connection broke, and meanwhile all faces have published."""
    async with daemon.web(secure).open() as web:
        events = await web.events(f"{topic}/*")
        await events.begun()
    for n, face in enumerate(SESSIONS):
        async with daemon.connect(face) as client:
            await client.publish(f"{topic}/{n}", face.encode())
    async with daemon.web(secure).open() as web:
        again = await web.events(f"{topic}/*", last_event_id=events.id)
        found = [heard_event(await again.next()) for _ in SESSIONS]
        assert [(event.topic, event.digest) for event in found] == [
            (f"{topic}/{n}", digest(face.encode()).hex()) for n, face in enumerate(SESSIONS)
        ]


@scenario
async def test_a_key_publishes_once_on_any_connection(daemon, topic):
    async with daemon.connect("websocket") as client:
        subscription = await client.subscribe(topic)
        receipts = []
        for secure in (False, True, False):
            async with daemon.web(secure).open() as web:
                receipts.append(await web.publish(topic, b"once", "a key"))
        assert [receipt.pop("duplicate") for receipt in receipts] == [False, True, True]
        assert receipts[0] == receipts[1] == receipts[2]
        await client.publish(topic, b"once")
        assert [(m.sequence, m.count) for m in [await subscription.message(), await subscription.message()]] == [
            (1, 1),
            (2, 2),
        ]
