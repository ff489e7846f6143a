"""The daemon, seen by a client that knows docs/protocol.md and nothing else."""

import asyncio
import functools
import json
import secrets
import ssl
from pathlib import Path

import pytest

import names
from client import Producer, Refused, Stream, digest
from codec import CONTROL_LIMIT, PAYLOAD_OVERHEAD, U32, Record, encode

LONGEST = 60
"""Seconds that a whole test may take, however many waits it has."""

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
INVALID = json.loads((VECTORS / "invalid.json").read_text(encoding="utf-8"))
NAMES = json.loads((VECTORS / "names.json").read_text(encoding="utf-8"))
OTHER = {"quic": "webtransport", "webtransport": "quic"}


def scenario(test):
    """Makes a test of a coroutine."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        async def bounded():
            async with asyncio.timeout(LONGEST):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


def last(n):
    return Record("Last", value=n)


def sequence(n):
    return Record("Sequence", value=n)


async def refused(code, request):
    with pytest.raises(Refused) as refusal:
        await request
    assert refusal.value.code == code


async def sent_away(client, code, retry=False):
    """The daemon says goodbye with this code, and closes."""
    gone = await client.wait(f"the end of the session, with {code},", client.gone)
    assert client.goodbye is not None, f"no Goodbye before the end: {gone}"
    assert (gone.code, client.goodbye.retry) == (code, retry), gone


async def fill(client, topic, count):
    """Publishes 1, 2, 3 … to a topic."""
    for n in range(1, count + 1):
        receipt = await client.publish(topic, str(n).encode())
        assert receipt.sequence == n


# Connecting.


@scenario
async def test_the_welcome(daemon, transport):
    async with daemon.connect(transport) as client:
        welcome = client.welcome.result()
        assert welcome.version == 1
        assert welcome.run != 0
        assert welcome.limits == Record("Limits", payload=16 << 20, subscriptions=256, window=1024)
        assert welcome.agent.startswith("weir/")


@scenario
async def test_another_certificate_is_refused(daemon, transport):
    from client import Client

    with pytest.raises(ssl.SSLCertVerificationError):
        async with Client.connect(daemon.host, daemon.port, "00" * 32, transport):
            pass


@scenario
async def test_everything_at_once_without_waiting(daemon, transport, topic):
    """Hello, subscribe and publish in the first flight, on three streams."""
    async with daemon.connect(transport, hello=False) as client:
        client.hello_now()
        subscription, subscribed = client.subscribe_now(topic, "All")
        small = client.publish_now(topic, b"small")
        own = client.publish_now(topic + "/x", bytes(100_000))
        control = client.publish_now(topic + "/y", b"control", stream=client.control)
        await client.wait("Subscribed", subscribed)
        for receipt in (small, own, control):
            assert (await client.wait("a receipt", receipt)).sequence == 1
        assert (await subscription.message()).payload == b"small"


@scenario
async def test_a_publish_stream_before_the_hello_is_held(daemon, transport, topic):
    async with daemon.connect(transport, hello=False) as client:
        receipt = client.publish_now(topic, b"early")
        client.transport.transmit()
        client.hello_now()
        assert (await client.wait("the receipt", receipt)).sequence == 1


# Publishing.


@scenario
async def test_receipts_count_and_carry_the_digest(daemon, transport, topic):
    payloads = [b"", b"hello", bytes(range(256)), "grüß dich".encode()]
    async with daemon.connect(transport) as client:
        for round in (1, 2):
            for index, payload in enumerate(payloads):
                receipt = await client.publish(topic, payload)
                assert receipt == Record(
                    "Receipt",
                    alias=1,
                    number=(round - 1) * len(payloads) + index + 1,
                    sequence=(round - 1) * len(payloads) + index + 1,
                    count=round,
                    since=0,
                    digest=digest(payload),
                    duplicate=False,
                )


@scenario
async def test_a_number_counts_once_in_any_session(daemon, transport, topic):
    producer = Producer()
    async with daemon.connect(transport, producer=producer) as client:
        subscription = await client.subscribe(topic)
        original = await client.publish(topic, b"once")
        again = await client.publish(topic, b"something else", number=1)
        assert again == Record("Receipt", **{**original, "duplicate": True})
    async with daemon.connect(OTHER[transport], producer=producer) as other:
        again = await other.publish(topic, b"once", number=1)
        assert again == Record("Receipt", **{**original, "duplicate": True})
        subscription = await other.subscribe(topic, "All")
        following = await other.publish(topic, b"once")
        assert (following.number, following.sequence, following.count) == (2, 2, 2)
        assert [(await subscription.message()).count for _ in range(2)] == [1, 2]
        assert [(entry.count, entry.sequence) for entry in await other.top(topic)] == [(2, 2)]


@scenario
async def test_the_window_of_numbers(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        await refused("STALE", client.publish(topic, b"", number=0))
        await client.publish(topic, b"", number=2000)
        await refused("STALE", client.publish(topic, b"", number=2000 - 1024))
        receipt = await client.publish(topic, b"", number=2000 - 1023)
        assert (receipt.sequence, receipt.count, receipt.duplicate) == (2, 2, False)


@scenario
async def test_a_stamp_is_passed_on(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        subscription = await client.subscribe(topic)
        await client.publish(topic, b"", stamp=2**64 - 1)
        assert (await subscription.message()).stamp == 2**64 - 1


@scenario
async def test_large_and_binary_payloads_come_back_byte_for_byte(daemon, transport, topic):
    payloads = [bytes(range(256)), secrets.token_bytes(64 * 1024 + 1), secrets.token_bytes(1 << 20)]
    async with daemon.connect(transport) as client:
        subscription = await client.subscribe(topic)
        for payload in payloads:
            assert (await client.publish(topic, payload)).digest == digest(payload)
            assert (await subscription.message()).payload == payload
            assert (await client.get(topic)).payload == payload


@scenario
async def test_from_one_transport_to_the_other(daemon, transport, topic):
    async with daemon.connect(transport) as publisher, daemon.connect(OTHER[transport]) as subscriber:
        subscription = await subscriber.subscribe(topic)
        for n in range(1, 101):
            publisher.publish_now(topic, str(n).encode())
        for n in range(1, 101):
            message = await subscription.message(f"message {n}")
            assert (message.sequence, message.payload) == (n, str(n).encode())


@scenario
async def test_a_reset_inside_a_frame_costs_that_frame_only(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        stream = Stream(client.transport)
        receipt = client.publish_now(topic, b"whole", stream=stream)
        await client.wait("the receipt", receipt)
        stream.write(encode(Record("Publish", alias=1, number=2, stamp=0, payload=b"broken off"))[:-1])
        client.transport.transmit()
        stream.reset()
        assert (await client.publish(topic, b"next", number=2)).sequence == 2


# Subscribing.


@pytest.mark.parametrize(
    "start, first",
    [
        ("New", 6),
        ("Latest", 5),
        ("All", 1),
        (last(0), 6),
        (last(2), 4),
        (last(2**64 - 1), 1),
        (sequence(0), 1),
        (sequence(4), 4),
        (sequence(6), 6),
        (sequence(2**64 - 1), 6),
    ],
    ids=str,
)
@scenario
async def test_where_a_subscription_starts(daemon, transport, topic, start, first):
    async with daemon.connect(transport) as client:
        await fill(client, topic, 5)
        subscription = await client.subscribe(topic, start)
        await client.publish(topic, b"6")
        announced = await subscription.next("the Topic")
        assert (announced.kind, announced.name, announced.next) == ("Topic", topic, first)
        assert announced.epoch != 0
        for n in range(first, 7):
            message = await subscription.message(f"message {n}")
            assert (message.sequence, message.payload) == (n, str(n).encode())


@scenario
async def test_a_wildcard_brings_all_topics_in_the_order_of_acceptance(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        published = [f"{topic}/{n % 3}" for n in range(12)]
        for name in published[:6]:
            await client.publish(name, name.encode())
        one, rest = await client.subscribe(f"{topic}/*", "All"), await client.subscribe(f"{topic}/**", "All")
        for name in published[6:]:
            await client.publish(name, name.encode())
        await client.publish(f"{topic}/deep/er", b"")
        for name in published:
            for subscription in (one, rest):
                message = await subscription.message(f"a message of {name}")
                assert (message.name, message.payload) == (name, name.encode())
        assert (await rest.message()).name == f"{topic}/deep/er"
        assert one.nothing_more()


@scenario
async def test_a_topic_that_begins_later_comes_from_its_first_message(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        subscription = await client.subscribe(f"{topic}/*", "New")
        await client.publish(f"{topic}/new", b"first")
        message = await subscription.message()
        assert (message.sequence, message.payload) == (1, b"first")


@scenario
async def test_names_match_as_the_vectors_say(start, transport):
    matches = NAMES["matches"]
    topics = sorted({m["topic"] for m in matches if names.topic_code(m["topic"]) is None})
    async with start().connect(transport) as client:
        for name in topics:
            await client.publish(name, b"")
        subscriptions = [await client.subscribe(f, "All") for f in sorted({m["filter"] for m in matches})]
        for name in topics:
            await client.publish(name, b"")
        for subscription in subscriptions:
            expected = [name for name in topics if names.matches(subscription.pattern, name)] * 2
            for name in expected:
                assert (await subscription.message()).name == name
            assert (await client.unsubscribe(subscription)).code == 0
            assert subscription.nothing_more(), subscription.pattern


@scenario
async def test_unsubscribe(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        gone, stays = await client.subscribe(topic), await client.subscribe(topic)
        await client.publish(topic, b"1")
        await gone.message()
        ended = await client.unsubscribe(gone)
        assert (ended.request, ended.code) == (gone.request, 0)
        await client.publish(topic, b"2")
        assert [(await stays.message()).payload for _ in range(2)] == [b"1", b"2"]
        assert gone.nothing_more()
        gone.ended = client.future()
        await refused("BAD_REQUEST", client.unsubscribe(gone))


@scenario
async def test_more_subscriptions_than_allowed(start, transport, topic):
    async with start(WEIR_LIMITS__SUBSCRIPTIONS="2").connect(transport) as client:
        assert client.welcome.result().limits.subscriptions == 2
        first = await client.subscribe(topic)
        await client.subscribe(topic)
        await refused("TOO_MANY_SUBSCRIPTIONS", client.subscribe(topic))
        await client.unsubscribe(first)
        await client.subscribe(topic)


@scenario
async def test_deliveries_of_a_later_release(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        for delivery in ("Unordered", "Realtime"):
            await refused("UNSUPPORTED", client.subscribe(topic, delivery=delivery))


@scenario
async def test_what_has_left_the_cache(start, transport, topic):
    """A cache of 1 MiB, and 2 MiB through it: gaps, `EVICTED`, `LAGGED`."""
    count, size = 32, 64 * 1024
    async with start(WEIR_CACHE__BYTES="1MiB", WEIR_LIMITS__PAYLOAD="128KiB").connect(transport) as client:
        for n in range(count):
            await client.publish(topic, bytes([n]) * size)
        subscription = await client.subscribe(topic, "All")
        announced = await subscription.next("the Topic")
        gap = await subscription.next("the Gap")
        assert (announced.next, gap.kind, gap.first, gap.cause.kind) == (1, "Gap", 1, "Evicted")
        for n in range(gap.last + 1, count + 1):
            assert (await subscription.message(f"message {n}")).payload == bytes([n - 1]) * size
        await refused("EVICTED", client.get(topic, sequence(1)))
        assert (await client.get(topic, sequence(count))).payload == bytes([count - 1]) * size
        ends, _ = client.subscribe_now(topic, sequence(1), lag="Disconnect")
        assert (await client.wait("Ended", ends.ended)).code == 0x50
        newest = await client.subscribe(topic, sequence(1), lag="Newest")
        assert (await newest.next()).next == 1
        assert ((gap := await newest.next()).kind, gap.last) == ("Gap", count - 1)
        assert (await newest.message()).sequence == count


# Resuming.


@scenario
async def test_resume_exactly_where_it_stopped(daemon, transport, topic):
    async with daemon.connect(transport) as publisher:
        async with daemon.connect(transport) as first:
            subscription = await first.subscribe(f"{topic}/*", "New")
            for n in range(1, 11):
                await publisher.publish(f"{topic}/{n % 2}", str(n).encode())
            for n in range(1, 8):
                assert (await subscription.message()).payload == str(n).encode()
            wanted = [8, 9, 10]
            state = subscription.resume()
            while len(wanted) and any(t.next > 4 + n for n, t in enumerate(())):
                pass
        state = resumed_after(state, {f"{topic}/1": 5, f"{topic}/0": 4})
        for n in range(11, 16):
            await publisher.publish(f"{topic}/{n % 3}", str(n).encode())
        async with daemon.connect(OTHER[transport]) as second:
            subscription = await second.subscribe(f"{topic}/*", state)
            await publisher.publish(f"{topic}/end", b"16")
            for n in range(8, 17):
                assert (await subscription.message(f"message {n}")).payload == str(n).encode()
