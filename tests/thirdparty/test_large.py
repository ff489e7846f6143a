"""Large payloads, in parts: published, relayed while they arrive, and what goes wrong half-way."""

import asyncio
import secrets

import pytest

from client import CHUNK, PART, Producer, Stream, digest, parts
from codec import Record
from support import refused, scenario, sent_away, sequence

MIB = 1 << 20
OTHER = {"quic": "webtransport", "webtransport": "websocket", "websocket": "quic"}
DELIVERIES = ["Ordered", "Unordered", "Realtime"]


@pytest.fixture(params=DELIVERIES)
def delivery(request):
    return request.param


async def begun(client, topic, before=0):
    """Waits until a publication that was begun on a topic has its sequence: publishes small ones until one is missing.
    Returns how many."""
    published = 0
    while True:
        published += 1
        if (await client.publish(topic, b"small")).sequence > before + published:
            return published


async def rest(subscription, messages, gaps):
    """The next so many messages and gaps, in any order."""
    found, told = {}, []
    while len(found) < messages or len(told) < gaps:
        item = await subscription.next()
        if item.kind == "Message":
            assert item.sequence not in found
            found[item.sequence] = item.payload
        elif item.kind == "Gap":
            told.append((item.first, item.last, item.cause.kind))
    return found, told


# What goes well.


@pytest.mark.parametrize("size", [CHUNK + 1, 2 * CHUNK, MIB, 16 * MIB])
@scenario
async def test_a_large_payload_there_and_back(daemon, transport, delivery, topic, size):
    payload = secrets.token_bytes(size)
    async with daemon.connect(transport) as publisher, daemon.connect(OTHER[transport]) as subscriber:
        here = await publisher.subscribe(topic, delivery=delivery)
        there = await subscriber.subscribe(topic, delivery=delivery)
        receipt = await publisher.publish(topic, payload, stamp=7)
        assert (receipt.sequence, receipt.count, receipt.digest) == (1, 1, digest(payload))
        for subscription in (here, there, await subscriber.subscribe(topic, "All", delivery=delivery)):
            message = await subscription.message()
            assert (message.sequence, message.count, message.stamp) == (1, 1, 7)
            assert message.payload == payload
        for client in (publisher, subscriber):
            assert (await client.get(topic)).payload == payload
        assert not publisher.gone.done() and not subscriber.gone.done()


@pytest.mark.parametrize("part", [1000, PART, CHUNK])
@scenario
async def test_parts_of_any_length(daemon, transport, topic, part):
    payload = secrets.token_bytes(200_000)
    async with daemon.connect(transport) as client:
        subscription = await client.subscribe(topic)
        for count in (1, 2):
            receipt = await client.wait("a receipt", client.publish_now(topic, payload, part=part))
            assert (receipt.sequence, receipt.count) == (count, count)
            assert (await subscription.message()).payload == payload


@pytest.mark.parametrize("size", [0, 1, CHUNK])
@scenario
async def test_a_small_payload_in_parts_becomes_a_message(daemon, transport, topic, size):
    payload = secrets.token_bytes(size)
    async with daemon.connect(transport) as client:
        subscription = await client.subscribe(topic)
        receipt = await client.wait("a receipt", client.publish_now(topic, payload, part=PART))
        assert (receipt.sequence, receipt.digest) == (1, digest(payload))
        assert (await subscription.message()).payload == payload


@scenario
async def test_a_large_publish_is_taken_too(daemon, transport, topic):
    """Whoever cannot compute a digest sends all of it in one frame."""
    payload = secrets.token_bytes(MIB)
    async with daemon.connect(transport) as client:
        subscription = await client.subscribe(topic)
        stream = client.control if client.transport.ONE_CHANNEL else Stream(client.transport)
        receipt = await client.wait("a receipt", client.publish_now(topic, payload, stream=stream))
        assert receipt.digest == digest(payload)
        assert (await subscription.message()).payload == payload


@scenario
async def test_it_is_relayed_while_it_arrives_and_holds_up_no_other_topic(daemon, transport, topic):
    payload = secrets.token_bytes(5 * PART)
    async with daemon.connect(transport) as publisher, daemon.connect(OTHER[transport]) as subscriber:
        subscription = await subscriber.subscribe(f"{topic}/*")
        stream, answer = publisher.begin_now(f"{topic}/large", len(payload))
        for n, part in enumerate(parts(payload, PART), 1):
            stream.send("Chunk", bytes=part)
            await publisher.publish(f"{topic}/small", str(n).encode())
            message = await subscription.message()
            assert (message.name, message.payload) == (f"{topic}/small", str(n).encode())
        # In its own topic it holds up what follows.
        assert (await publisher.publish(f"{topic}/large", b"after")).sequence == 2
        await refused("NOT_FOUND", subscriber.get(f"{topic}/large", sequence(1)))
        assert not answer.done()
        stream.send("End", digest=digest(payload))
        publisher.finish(stream)
        assert (await publisher.wait("a receipt", answer)).sequence == 1
        assert (await subscription.message()).payload == payload
        assert (await subscription.message()).payload == b"after"


@scenario
async def test_a_late_joiner_gets_what_is_arriving(daemon, transport, topic):
    payload = secrets.token_bytes(3 * PART)
    async with daemon.connect(transport) as publisher, daemon.connect(transport) as subscriber:
        stream, answer = publisher.begin_now(topic, len(payload))
        first, *others = parts(payload, PART)
        stream.send("Chunk", bytes=first)
        published = await begun(publisher, topic)
        subscription = await subscriber.subscribe(topic, "All")
        for part in others:
            stream.send("Chunk", bytes=part)
        stream.send("End", digest=digest(payload))
        publisher.finish(stream)
        await publisher.wait("a receipt", answer)
        # The first small ones may have overtaken it, as they come on another stream.
        expected = [b"small"] * (published - 1) + [payload, b"small"]
        assert [(await subscription.message()).payload for _ in expected] == expected


# What goes wrong half-way.


@scenario
async def test_the_publisher_goes_away(daemon, transport, delivery, topic):
    """The stream is reset where there are streams; the session ends otherwise."""
    async with daemon.connect(transport) as subscriber:
        subscription = await subscriber.subscribe(topic, delivery=delivery)
        async with daemon.connect(transport) as publisher:
            stream, answer = publisher.begin_now(topic, MIB)
            stream.send("Chunk", bytes=bytes(CHUNK))
            published = await begun(subscriber, topic)
            if not publisher.transport.ONE_CHANNEL:
                stream.reset()
                await publisher.ping()
        await subscriber.publish(topic, b"after")
        found, told = await rest(subscription, published + 1, 1)
        assert told == [(published, published, "Aborted")]
        assert sorted(found) == [n for n in range(1, published + 3) if n != published]
        assert subscription.nothing_more()
        if subscription.aborted:
            assert subscription.aborted == ["PUBLISHER_GONE"]
        assert set(subscriber.resets.values()) <= {"PUBLISHER_GONE"}
        assert [entry.count for entry in await subscriber.top(topic)] == [published, 1]


@scenario
async def test_another_digest_than_announced(daemon, transport, delivery, topic):
    payload = secrets.token_bytes(3 * PART)
    async with daemon.connect(transport) as client:
        subscription = await client.subscribe(topic, delivery=delivery)
        stream, answer = client.begin_now(topic, len(payload), number=1)
        for part in parts(payload, PART):
            stream.send("Chunk", bytes=part)
        stream.send("End", digest=digest(b"another"))
        client.finish(stream)
        await refused("MALFORMED", client.wait("an answer", answer))
        # Its number is not used up, and the session goes on.
        receipt = await client.publish(topic, payload, number=1)
        assert (receipt.sequence, receipt.count, receipt.duplicate) == (2, 1, False)
        found, told = await rest(subscription, 1, 1)
        assert (found, told) == ({2: payload}, [(1, 1, "Aborted")])


@scenario
async def test_a_stream_that_ends_early(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        subscription = await client.subscribe(topic)
        stream, answer = client.begin_now(topic, MIB)
        stream.send("Chunk", bytes=b"some")
        published = await begun(client, topic)
        client.finish(stream)
        found, told = await rest(subscription, published, 1)
        assert told == [(published, published, "Aborted")]
        assert not answer.done()
        # Nor is it held against the number: once more.
        payload = secrets.token_bytes(MIB)
        receipt = await client.publish(topic, payload, number=1)
        assert (receipt.count, receipt.duplicate) == (1, False)
        assert (await subscription.message()).payload == payload


@scenario
async def test_a_number_that_was_accepted_is_answered_at_once(daemon, transport, topic):
    payload, producer = secrets.token_bytes(MIB), Producer()
    async with daemon.connect(transport, producer=producer) as client:
        original = await client.publish(topic, payload, number=1)
        subscription = await client.subscribe(topic)
    async with daemon.connect(OTHER[transport], producer=producer) as client:
        subscription = await client.subscribe(topic)
        stream, answer = client.begin_now(topic, MIB, number=1)
        again = await client.wait("a receipt before the end", answer)
        assert again == Record("Receipt", **{**original, "alias": 1, "duplicate": True})
        # Nobody waits for the rest. Over the one channel it may come, and is dropped.
        if client.transport.ONE_CHANNEL:
            stream.send("Chunk", bytes=b"dropped")
        assert (await client.publish(topic, payload, number=2)).count == 2
        assert (await subscription.message()).sequence == 2


@scenario
async def test_begun_again_while_it_still_arrives(daemon, transport, topic):
    """As after a reconnect, before the daemon has noticed that the old session is gone."""
    payload, producer = secrets.token_bytes(3 * PART), Producer()
    async with daemon.connect(transport, producer=producer) as old, daemon.connect(transport) as witness:
        subscription = await witness.subscribe(topic)
        stream, _ = old.begin_now(topic, len(payload), number=1)
        stream.send("Chunk", bytes=payload[:PART])
        published = await begun(witness, topic)
        async with daemon.connect(OTHER[transport], producer=producer) as new:
            receipt = await new.publish(topic, payload, number=1)
            assert (receipt.count, receipt.duplicate) == (1, False)
        found, told = await rest(subscription, published + 1, 1)
        assert told == [(published, published, "Aborted")]
        assert found[receipt.sequence] == payload


@scenario
async def test_a_payload_above_the_limit(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        for size in (16 * MIB + 1, 2**64 - 1):
            _, answer = client.begin_now(topic, size)
            await refused("PAYLOAD_TOO_LARGE", client.wait("an answer", answer))
        assert (await client.publish(topic, b"still here")).sequence == 1


@scenario
async def test_what_would_be_rejected_is_rejected_at_once(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        for code, name, number in [("STALE", topic, 0), ("BAD_TOPIC", "a//b", 1), ("RESERVED", "$weir/a", 1)]:
            _, answer = client.begin_now(name, MIB, number=number)
            await refused(code, client.wait("an answer", answer))


@scenario
async def test_a_payload_that_stands_still(daemon, topic):
    """Ten seconds, on all transports at once."""

    async def stand_still(transport):
        async with daemon.connect(transport) as client:
            subscription = await client.subscribe(f"{topic}/{transport}")
            stream, answer = client.begin_now(f"{topic}/{transport}", MIB, number=1)
            stream.send("Chunk", bytes=b"some")
            await refused("TIMED_OUT", client.wait("an answer", answer))
            payload = secrets.token_bytes(MIB)
            assert not (await client.publish(f"{topic}/{transport}", payload, number=1)).duplicate
            found, told = await rest(subscription, 1, 1)
            assert (found, told) == ({2: payload}, [(1, 1, "Aborted")])

    await asyncio.gather(*map(stand_still, OTHER))


# What ends the session.


def chunk(payload):
    return Record("Chunk", bytes=payload)


END = Record("End", digest=digest(b""))
BEGIN = Record("Begin", alias=1, number=2, stamp=0, size=100_000)


@pytest.mark.parametrize(
    "code, frames",
    [
        ("UNEXPECTED", [chunk(b"some"), BEGIN]),
        ("MALFORMED", [chunk(b"some"), END]),
        ("MALFORMED", [END]),
        ("MALFORMED", [chunk(bytes(60_000)), chunk(bytes(40_001))]),
        ("MALFORMED", [chunk(b"")]),
        ("MALFORMED", [chunk(bytes(CHUNK + 1))]),
    ],
    ids=["second begin", "too short", "nothing", "too long", "empty chunk", "long chunk"],
)
@scenario
async def test_what_ends_the_session(daemon, transport, topic, code, frames):
    async with daemon.connect(transport) as witness, daemon.connect(transport) as client:
        subscription = await witness.subscribe(topic)
        stream, _ = client.begin_now(topic, 100_000, number=1)
        published = await begun(witness, topic)
        for frame in frames:
            stream.send(frame.kind, **frame)
        await sent_away(client, code)
        found, told = await rest(subscription, published, 1)
        assert told == [(published, published, "Aborted")]
        assert set(found.values()) == {b"small"}


@scenario
async def test_frames_between_the_parts(daemon, streams, topic):
    """On a stream of its own there is nothing else."""
    async with daemon.connect(streams) as client:
        stream, _ = client.begin_now(topic, 100_000, number=1)
        stream.send("Publish", alias=1, number=2, stamp=0, payload=b"")
        await sent_away(client, "UNEXPECTED")


@scenario
async def test_frames_between_the_parts_on_one_channel(daemon, topic):
    """There all others may stand, each chunk in a message of its own."""
    payload = secrets.token_bytes(5 * PART)
    async with daemon.connect("websocket") as client:
        subscription = await client.subscribe(f"{topic}/*")
        stream, answer = client.begin_now(f"{topic}/large", len(payload))
        for n, part in enumerate(parts(payload, PART), 1):
            stream.send("Chunk", bytes=part)
            assert (await client.publish(f"{topic}/small", str(n).encode())).sequence == n
            await client.ping()
            assert (await subscription.message()).payload == str(n).encode()
        stream.send("End", digest=digest(payload))
        assert (await client.wait("a receipt", answer)).digest == digest(payload)
        assert (await subscription.message()).payload == payload
