"""The daemon, seen by a client that knows docs/protocol.md and nothing else."""

import asyncio
import json
import secrets
import ssl
from pathlib import Path

import pytest

import names
from client import Client, Producer, Stream, digest
from codec import Record, encode
from support import fill, last, refused, scenario, sent_away, sequence, too_long

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
INVALID = json.loads((VECTORS / "invalid.json").read_text(encoding="utf-8"))
NAMES = json.loads((VECTORS / "names.json").read_text(encoding="utf-8"))
OTHER = {"quic": "webtransport", "webtransport": "websocket", "websocket": "quic"}


# Connecting.


@scenario
async def test_the_welcome(daemon, transport):
    async with daemon.connect(transport) as client:
        welcome = client.welcome.result()
        assert welcome.version == 1
        assert welcome.run != 0
        assert welcome.limits == Record(None, payload=16 << 20, subscriptions=256, window=1024)
        assert welcome.agent.startswith("weir/")


@scenario
async def test_another_certificate_is_refused(daemon, transport):
    with pytest.raises(ssl.SSLCertVerificationError):
        async with Client.connect(daemon.host, daemon.port, "00" * 32, transport):
            pass


@scenario
async def test_everything_at_once_without_waiting(daemon, transport, topic):
    """Hello, subscribe and publish in the first flight, on three streams if there are any."""
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
async def test_a_publish_stream_before_the_hello_is_held(daemon, streams, topic):
    async with daemon.connect(streams, hello=False) as client:
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
async def test_a_reset_inside_a_frame_costs_that_frame_only(daemon, streams, topic):
    async with daemon.connect(streams) as client:
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
async def test_what_has_left_the_cache(start, transport, topic):
    """A cache of 1 MiB, and 2 MiB through it: gaps, `EVICTED`, `LAGGED`."""
    count, size = 32, 64 * 1024
    async with start(WEIR_CACHE__BYTES="1MiB", WEIR_LIMITS__PAYLOAD="128KiB").connect(transport) as client:
        for n in range(count):
            await client.publish(topic, bytes([n]) * size)
        oldest = await client.subscribe(topic, "All")
        oldest = (await oldest.message("the oldest message")).sequence
        assert oldest > 1
        subscription = await client.subscribe(topic, sequence(1))
        announced = await subscription.next("the Topic")
        gap = await subscription.next("the Gap")
        assert (announced.next, gap.kind, gap.first, gap.last) == (1, "Gap", 1, oldest - 1)
        assert gap.cause.kind == "Evicted"
        for n in range(gap.last + 1, count + 1):
            assert (await subscription.message(f"message {n}")).payload == bytes([n - 1]) * size
        await refused("EVICTED", client.get(topic, sequence(1)))
        assert (await client.get(topic, sequence(count))).payload == bytes([count - 1]) * size
        resumed = await client.subscribe(topic, subscription.resume())
        await client.publish(topic, b"one more")
        assert (await resumed.message()).sequence == count + 1
        ends, _ = client.subscribe_now(topic, sequence(1), lag="Disconnect")
        assert (await client.wait("Ended", ends.ended)).code == 0x50
        newest = await client.subscribe(topic, sequence(1), lag="Newest")
        assert (await newest.next()).next == 1
        assert ((gap := await newest.next()).kind, gap.last) == ("Gap", count)
        assert gap.cause.kind == "Skipped"
        assert (await newest.message()).sequence == count + 1


# Resuming.


@scenario
async def test_resume_exactly_where_it_stopped(daemon, transport, topic):
    pattern = f"{topic}/*"
    async with daemon.connect(transport) as publisher:
        await publisher.publish(f"{topic}/0", b"before")
        async with daemon.connect(transport) as first:
            subscription = await first.subscribe(pattern, "New")
            for n in range(1, 11):
                await publisher.publish(f"{topic}/{n % 2}", str(n).encode())
            for n in range(1, 8):
                assert (await subscription.message(f"message {n}")).payload == str(n).encode()
        for n in range(11, 16):
            await publisher.publish(f"{topic}/{n % 3}", str(n).encode())
        async with daemon.connect(OTHER[transport]) as second:
            again = await second.subscribe(pattern, subscription.resume())
            await publisher.publish(f"{topic}/end", b"16")
            for n in range(8, 17):
                assert (await again.message(f"message {n}")).payload == str(n).encode()
            for name, known in subscription.topics.items():
                assert again.topics[name].epoch == known.epoch


@scenario
async def test_a_topic_that_rests_is_known_through_all_reconnects(daemon, transport, topic):
    """It is not announced again in a session in which it rests, and nothing of it is repeated in the next."""
    async with daemon.connect(transport) as publisher:
        start = "New"
        for n, published in enumerate(["ab", "a", "a", "ba"], 1):
            async with daemon.connect([transport, OTHER[transport]][n % 2]) as client:
                subscription = await client.subscribe(f"{topic}/*", start)
                for name in published:
                    await publisher.publish(f"{topic}/{name}", b"%d" % n)
                for name in published:
                    message = await subscription.message()
                    assert (message.name, message.payload) == (f"{topic}/{name}", b"%d" % n)
                start = subscription.resume()


@scenario
async def test_resume_before_anything_came(daemon, transport, topic):
    """With nothing but a position, all that was accepted after it comes, of all topics."""
    async with daemon.connect(transport) as publisher:
        await publisher.publish(f"{topic}/a", b"before")
        async with daemon.connect(transport) as first:
            subscription = await first.subscribe(f"{topic}/*", "New")
        await publisher.publish(f"{topic}/a", b"after")
        await publisher.publish(f"{topic}/b", b"new")
        async with daemon.connect(transport) as second:
            again = await second.subscribe(f"{topic}/*", subscription.resume())
            assert [(await again.message()).payload for _ in range(2)] == [b"after", b"new"]


@scenario
async def test_resume_at_a_daemon_that_knows_nothing(daemon, start, transport, topic):
    """Another run and another epoch: all there is, from sequence 1, and the epoch says so."""
    async with daemon.connect(transport) as client:
        subscription = await client.subscribe(topic, "All")
        await fill(client, topic, 3)
        for _ in range(3):
            await subscription.message()
    async with start().connect(transport) as client:
        await fill(client, topic, 2)
        again = await client.subscribe(topic, subscription.resume())
        announced = await again.next("the Topic")
        assert announced.next == 1
        assert announced.epoch != subscription.topics[topic].epoch
        assert [(await again.message()).payload for _ in range(2)] == [b"1", b"2"]


# Get, Top, Ping.


@scenario
async def test_get(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        for payload in (b"a", b"b", b"a", b"c"):
            await client.publish(topic, payload)
        for which, number, payload in [
            ("Latest", 4, b"c"),
            (sequence(1), 1, b"a"),
            (sequence(2), 2, b"b"),
            (Record("Digest", value=digest(b"a")), 3, b"a"),
        ]:
            message = await client.get(topic, which)
            assert (message.sequence, message.payload) == (number, payload)
        await refused("NOT_FOUND", client.get(topic, sequence(5)))
        await refused("NOT_FOUND", client.get(topic, Record("Digest", value=bytes(32))))
        await refused("NOT_FOUND", client.get(topic + "/none"))
        await refused("BAD_TOPIC", client.get("*"))
        # The daemon's own topics can be read.
        await refused("NOT_FOUND", client.get("$weir/none"))


@scenario
async def test_top(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        large = secrets.token_bytes(1025)
        for payload in (b"twice", b"thrice", large, b"thrice", b"twice", b"thrice"):
            await client.publish(topic, payload)
        entries = [
            Record(None, digest=digest(p), count=count, since=0, sequence=at, size=len(p), payload=shown)
            for p, count, at, shown in [(b"thrice", 3, 6, b"thrice"), (b"twice", 2, 5, b"twice"), (large, 1, 3, None)]
        ]
        assert await client.top(topic) == entries
        assert await client.top(topic, 2) == entries[:2]
        await refused("NOT_FOUND", client.top(topic + "/none"))
        for n in range(110):
            client.publish_now(topic + "/many", str(n).encode())
        await client.publish(topic + "/many", b"last")
        assert len(await client.top(topic + "/many", 1000)) == 100


@scenario
async def test_ping(daemon, transport):
    async with daemon.connect(transport) as client:
        clocks = [client.welcome.result().clock] + [(await client.ping()).clock for _ in range(3)]
        assert clocks == sorted(clocks) and clocks[0] > 0


# Names and limits that are refused, and the session goes on.


@scenario
async def test_bad_topics_and_filters(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        for bad in NAMES["topics"]["bad"]:
            code = "RESERVED" if bad["code"] == names.RESERVED else "BAD_TOPIC"
            # The daemon's own topics can be read, and not published to.
            await refused("NOT_FOUND" if code == "RESERVED" else code, client.get(bad["name"]))
            if len(bad["name"].encode()) <= 255:  # a longer one is no alias
                await refused(code, client.publish(bad["name"], b""))
        for bad in NAMES["filters"]["bad"]:
            await refused("BAD_FILTER", client.subscribe(bad["name"]))
        for good in NAMES["filters"]["good"]:
            await client.subscribe(good)
        assert (await client.publish(topic, b"still here")).sequence == 1


@scenario
async def test_a_payload_above_the_limit(start, transport, topic):
    limit = 64 * 1024
    daemon = start(WEIR_LIMITS__PAYLOAD=str(limit))
    async with daemon.connect(transport) as client:
        assert client.welcome.result().limits.payload == limit
        await refused("PAYLOAD_TOO_LARGE", client.publish(topic, bytes(limit + 1)))
        receipt = await client.publish(topic, bytes(limit), number=1)
        assert (receipt.sequence, receipt.count) == (1, 1)


# What ends a session, and no other.


@scenario
async def test_bytes_that_are_no_frame_end_their_session_alone(daemon, transport, topic):
    """Each invalid vector, on the control stream and on one of its own, or as a message, while another session goes
    on."""
    async with daemon.connect(OTHER[transport]) as bystander:
        subscription = await bystander.subscribe(topic)
        damages = [v for v in INVALID if v["to"] == "daemon" and v["kind"] in ("prefix", "frame", "end")]
        for n, vector in enumerate(damages, 1):
            async with daemon.connect(transport) as client:
                stream = client.control if n % 2 and vector["kind"] != "end" else Stream(client.transport)
                stream.write(bytes.fromhex(vector["hex"]), end=vector["kind"] == "end")
                await sent_away(client, "MALFORMED")
            receipt = await bystander.publish(topic, vector["name"].encode())
            assert receipt.sequence == n
            assert (await subscription.message()).payload == vector["name"].encode()


@scenario
async def test_a_damaged_frame_before_the_hello(daemon, transport):
    async with daemon.connect(transport, hello=False) as client:
        client.control.write(b"\xff" * 5)
        await sent_away(client, "MALFORMED")


@pytest.mark.parametrize("own", [False, True], ids=["control", "publish"])
@scenario
async def test_a_frame_above_the_limit(daemon, streams, own):
    """Refused by its length alone, as nothing else of it ever comes."""
    async with daemon.connect(streams) as client:
        (Stream(client.transport) if own else client.control).write(too_long(client))
        await sent_away(client, "FRAME_TOO_LARGE")


@scenario
async def test_another_version(daemon, transport):
    async with daemon.connect(transport, hello=False) as client:
        client.hello_now(version=2)
        await sent_away(client, "VERSION")


@scenario
async def test_another_frame_instead_of_the_hello(daemon, transport):
    async with daemon.connect(transport, hello=False) as client:
        client.control.send("Ping", request=1)
        await sent_away(client, "UNEXPECTED")


def on_control(kind, **fields):
    return lambda client: client.control.send(kind, **fields)


def on_publish_stream(kind, **fields):
    return lambda client: Stream(client.transport).send(kind, **fields)


def subscribe_twice(client):
    for _ in range(2):
        client.control.send(
            "Subscribe", request=7, filter="a", start="New", delivery="Ordered", lag="Oldest", deadline=0
        )
    client._wait_for(7)


def rename_an_alias(client):
    for name in ("a", "a", "b"):
        client.control.send("Topic", alias=1, name=name)


@pytest.mark.parametrize(
    "code, act",
    [
        ("UNEXPECTED", lambda client: client.hello_now()),
        ("BAD_ALIAS", on_control("Publish", alias=9, number=1, stamp=0, payload=b"")),
        ("BAD_ALIAS", on_control("Topic", alias=1, name="x" * 256)),
        ("BAD_ALIAS", rename_an_alias),
        ("BAD_REQUEST", subscribe_twice),
        ("BAD_ALIAS", on_publish_stream("Begin", alias=9, number=1, stamp=0, size=100_000)),
        ("UNEXPECTED", on_publish_stream("Chunk", bytes=b"x")),
        ("UNEXPECTED", on_publish_stream("End", digest=bytes(32))),
        ("MALFORMED", on_control("Repair", subscription=1, topic=1, holes=[(2, 4), (4, 5)])),
    ],
    ids=[
        "second hello",
        "unknown alias",
        "endless alias",
        "renamed alias",
        "request in use",
        "begin",
        "chunk",
        "end",
        "repair",
    ],
)
@scenario
async def test_what_ends_a_session(daemon, transport, code, act):
    async with daemon.connect(transport) as client:
        act(client)
        await sent_away(client, code)


@pytest.mark.parametrize(
    "frame",
    [Record("Ping", request=1), Record("Repair", subscription=1, topic=1, holes=[])],
    ids=lambda frame: frame.kind,
)
@scenario
async def test_what_ends_a_session_on_a_publish_stream(daemon, streams, frame):
    async with daemon.connect(streams) as client:
        Stream(client.transport).send(frame.kind, **frame)
        await sent_away(client, "UNEXPECTED")


@scenario
async def test_no_hello_in_time(daemon):
    """Ten seconds, on all transports at once."""

    async def silent(transport):
        async with daemon.connect(transport, hello=False) as client:
            if transport != "websocket":  # else there is no stream for the Goodbye to go on
                client.control.write(b"\x1d")
                client.transport.transmit()
            await sent_away(client, "TIMED_OUT", retry=True)

    await asyncio.gather(*map(silent, OTHER))


# The end.


@pytest.mark.parametrize("how", ["goodbye", "finish", "reset"])
@scenario
async def test_a_client_that_leaves(daemon, streams, how):
    """The daemon closes at once, without a word."""
    async with daemon.connect(streams) as client:
        match how:
            case "goodbye":
                client.control.send("Goodbye", code=0, reason="")
            case "finish":
                client.control.write(b"", end=True)
            case "reset":
                client.control.reset()
        gone = await client.wait("the close", client.gone)
        assert (gone.code, gone.goodbye) == ("DONE", None)


@scenario
async def test_the_daemon_stops(start, transport, topic):
    daemon = start()
    async with daemon.connect(transport) as client, daemon.connect(OTHER[transport]) as other:
        subscription = await client.subscribe(topic)
        await client.publish(topic, b"last")
        assert (await subscription.message()).payload == b"last"
        daemon.terminate()
        for session in (client, other):
            await sent_away(session, "SHUTTING_DOWN", retry=True)
    assert await asyncio.to_thread(daemon.exit_code) == 0
