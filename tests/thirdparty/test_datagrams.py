"""`Unordered` and `Realtime` delivery, repair, and publishing in datagrams, over networks that lose."""

import asyncio
import collections
import json
import random
from pathlib import Path

import pytest

from client import DATAGRAM, Producer, Scattered, Stream, digest
from codec import FrameReader, Record, encode
from support import fill, last, refused, scenario, sent_away, sequence
from transport import Network

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
INVALID = json.loads((VECTORS / "invalid.json").read_text(encoding="utf-8"))
SMALL = 64 * 1024


class Nothing:
    """What comes in datagrams is lost, but for what `passes`: a predicate over frames."""

    def __init__(self, passes=lambda frame: False):
        self.passes = passes
        self.lost = []

    def carry(self, data):
        frames = decode(data)
        if all(map(self.passes, frames)):
            return [data]
        self.lost.append(frames)
        return []


def decode(data):
    reader = FrameReader("client")
    frames = list(reader.feed(data))
    reader.finish()
    return frames


class Clean:
    """Everything passes, and is seen."""

    def __init__(self):
        self.seen = []

    def carry(self, data):
        self.seen.append(decode(data))
        return [data]


async def until(what, condition, again=lambda: None):
    """Looks until it is so; `again` is done before each look, as datagrams may be lost on any network."""
    async with asyncio.timeout(30):
        while True:
            again()
            if condition():
                return
            await asyncio.sleep(0.01)


async def take(subscription, count):
    """So many messages and gaps, without their topics."""
    found = []
    while len(found) < count:
        item = await subscription.next(f"item {len(found)} of {count}")
        if item.kind != "Topic":
            found.append(item)
    return found


async def take_all(subscription, published):
    """Everything that was published, each once: a dict of payloads by name and sequence."""
    found = {}
    while len(found) < len(published):
        message = await subscription.message(f"message {len(found)} of {len(published)}")
        assert (message.name, message.sequence) not in found, f"{message} comes twice"
        found[message.name, message.sequence] = message.payload
    assert found == published


def of_kind(subscription, kind):
    return [(way, frame) for way, frame in subscription.heard if frame.kind == kind]


def worsen(client, network, seed):
    """What happens to the client's packets and datagrams from here on."""
    match network:
        case "packets are lost":
            client.transport.incoming = Network(seed, lost=0.1)
            client.transport.outgoing = Network(seed + 1, lost=0.1)
        case "packets are late":
            client.transport.incoming = Network(seed, lost=0.02, twice=0.1, late=4)
        case "datagrams are lost":
            client.datagrams = Network(seed, lost=0.3, twice=0.2, late=5)


NETWORKS = ["nothing is lost", "packets are lost", "packets are late", "datagrams are lost"]


@pytest.fixture(params=["Unordered", "Realtime"])
def delivery(request):
    return request.param


# Everything comes.


@pytest.mark.parametrize("network", NETWORKS)
@scenario
async def test_every_message_comes_once(daemon, streams, topic, delivery, network):
    choice = random.Random(network)
    published = {}
    async with daemon.connect("websocket") as publisher, daemon.connect(streams) as client:

        async def publish(count):
            for _ in range(count):
                name = f"{topic}/{choice.randrange(3)}"
                payload = choice.randbytes(choice.choice([0, 5, 100, 300, 1000, 1200, 5000] * 8 + [SMALL + 1]))
                receipt = await publisher.publish(name, payload)
                published[name, receipt.sequence] = payload

        await publish(50)
        worsen(client, network, 7)
        subscription = await client.subscribe(f"{topic}/*", "All", delivery=delivery)
        await publish(350)
        await take_all(subscription, published)
        await client.ping()
        assert subscription.nothing_more()
        if network == "datagrams are lost" and (streams, delivery) != ("quic", "Unordered"):
            assert client.datagrams.dropped and subscription.repairs


@scenario
async def test_many_at_once(daemon, streams, topic, delivery):
    """As fast as they go, over a network that loses a packet in ten."""
    count = 1500
    async with daemon.connect("websocket") as publisher, daemon.connect(streams) as client:
        subscription = await client.subscribe(topic, delivery=delivery)
        worsen(client, "packets are lost", 11)
        receipts = [publisher.publish_now(topic, b"%d" % n) for n in range(count)]
        await take_all(subscription, {(topic, n + 1): b"%d" % n for n in range(count)})
        for receipt in receipts:
            assert not (await publisher.wait("a receipt", receipt)).duplicate


@pytest.mark.parametrize(
    "start, first",
    [("New", 6), ("Latest", 5), ("All", 1), (last(2), 4), (sequence(4), 4), (sequence(0), 1)],
    ids=str,
)
@scenario
async def test_where_a_subscription_starts(daemon, transport, topic, delivery, start, first):
    async with daemon.connect(transport) as client:
        await fill(client, topic, 5)
        subscription = await client.subscribe(topic, start, delivery=delivery)
        await client.publish(topic, b"6")
        announced = await subscription.next("the Topic")
        assert (announced.kind, announced.name, announced.next) == ("Topic", topic, first)
        await take_all(subscription, {(topic, n): b"%d" % n for n in range(first, 7)})


@scenario
async def test_a_subscription_is_unsubscribed(daemon, transport, topic, delivery):
    async with daemon.connect(transport) as client:
        gone, stays = [await client.subscribe(topic, delivery=delivery) for _ in range(2)]
        await client.publish(topic, b"1")
        await gone.message()
        assert (await client.unsubscribe(gone)).code == 0
        await client.publish(topic, b"2")
        await take_all(stays, {(topic, 1): b"1", (topic, 2): b"2"})
        assert gone.nothing_more()
        again = await client.subscribe(topic, gone.resume(), delivery=delivery)
        await take_all(again, {(topic, 2): b"2"})


@scenario
async def test_three_deliveries_of_the_same(daemon, transport, topic):
    """In one session, in each order of subscribing."""
    deliveries = ["Ordered", "Unordered", "Realtime"]
    async with daemon.connect(transport) as client:
        worsen(client, "datagrams are lost", 5)
        subscriptions = [
            await client.subscribe(f"{topic}/*", delivery=d) for d in [*deliveries, *deliveries[::-1]]
        ]
        published = {(f"{topic}/{n % 2}", n // 2 + 1): b"%d" % n for n in range(60)}
        for (name, _), payload in published.items():
            await client.publish(name, payload)
        for subscription in subscriptions:
            await take_all(subscription, published)
        assert all(subscription.nothing_more() for subscription in subscriptions)


@scenario
async def test_in_order_over_websocket(daemon, topic, delivery):
    """Where there are no datagrams, all is as with `Ordered`; the client's checks are those, too."""
    for transport in ("websocket", "plain websocket"):
        async with daemon.connect("quic") as publisher, daemon.connect(transport) as client:
            subscription = await client.subscribe(f"{topic}/*", delivery=delivery, deadline=60_000)
            assert not isinstance(subscription, Scattered)
            published = [(f"{topic}/{n % 3}", b"%d" % n * (20_000 if n % 40 == 1 else 1)) for n in range(120)]
            for name, payload in published:
                await publisher.publish(name, payload)
            got = [await subscription.message() for _ in published]
            assert [(message.name, message.payload) for message in got] == published
            # A Repair has nothing to repair there, and does no harm.
            client.repair(subscription.request, got[0].topic, [(1, 2)])
            await client.ping()


@scenario
async def test_realtime_to_a_client_without_datagrams(daemon, topic):
    async with daemon.connect("quic without datagrams") as client:
        await fill(client, topic, 5)
        subscription = await client.subscribe(topic, "All", delivery="Realtime")
        subscription.heard = []
        for n in range(6, 51):
            await client.publish(topic, b"%d" % n)
        await take_all(subscription, {(topic, n): b"%d" % n for n in range(1, 51)})
        assert len(subscription.streams) == 1


# How they come.


@scenario
async def test_unordered_over_quic_is_a_stream_for_each(daemon, topic):
    """Each with its `Topic`, whose `next` is where the subscription began."""
    async with daemon.connect("quic") as client:
        await fill(client, topic, 5)
        subscription, subscribed = client.subscribe_now(topic, sequence(3), delivery="Unordered")
        subscription.heard = []
        await client.wait("Subscribed", subscribed)
        sizes = [10, 1000, 5000, SMALL, SMALL + 1, 500_000] * 20
        for size in sizes:
            client.publish_now(topic, bytes(size))
        found = await take(subscription, 3 + len(sizes))
        assert sorted(message.sequence for message in found) == list(range(3, 6 + len(sizes)))
        ways = collections.defaultdict(list)
        for way, frame in subscription.heard:
            assert way != DATAGRAM
            ways[way].append(frame)
        single = [frames for frames in ways.values() if [f.kind for f in frames] == ["Topic", "Message"]]
        assert {frames[0].next for frames in single} == {3}
        assert len(single) == 3 + len(sizes), {w: len(f) for w, f in ways.items() if len(f) != 2}
        await until("the ends of the streams", lambda: set(ways) <= client.finished)


@scenario
async def test_large_payloads_are_on_streams_of_their_own(daemon, streams, topic, delivery):
    """In all cases: `Unordered` over raw QUIC has everything so."""
    async with daemon.connect(streams) as client:
        subscription = await client.subscribe(topic, delivery=delivery)
        subscription.heard = []
        sizes = [10, 1000, 5000, SMALL, SMALL + 1, 500_000]
        for size in sizes:
            await client.publish(topic, bytes(size))
        await take_all(subscription, {(topic, n): bytes(size) for n, size in enumerate(sizes, 1)})
        by_way = collections.defaultdict(list)
        for way, frame in subscription.heard:
            by_way[way].append(frame)
        for way, frame in of_kind(subscription, "Message"):
            size = len(frame.payload)
            if size > SMALL:
                assert [f.kind for f in by_way[way]] == ["Topic", "Message"], "a stream of its own"
                assert by_way[way][0].next == 1
                await until("its end", lambda: way in client.finished)
            elif size > SMALL // 2:
                assert way != DATAGRAM


@scenario
async def test_what_fits_comes_in_datagrams(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        subscription = await client.subscribe(topic, delivery="Realtime", repairs=False)
        subscription.heard = []
        await client.publish(topic, b"1")
        await until(
            "a datagram",
            lambda: any(way == DATAGRAM for way, _ in of_kind(subscription, "Message")),
            lambda: client.publish_now(topic, b"more"),
        )


@scenario
async def test_bare_datagrams_belong_to_the_lowest_request(daemon, streams, topic):
    """That a message is for the right one, the filters say: the client compares each topic with them."""
    async with daemon.connect(streams) as client:
        client.datagrams = Clean()
        delivery = "Unordered" if streams == "webtransport" else "Realtime"
        await client.subscribe(f"{topic}/**")
        lowest = await client.subscribe(f"{topic}/a", delivery=delivery)
        other = await client.subscribe(f"{topic}/b", delivery="Realtime")

        async def publish(subscriptions, numbers):
            for n in numbers:
                for subscription in subscriptions:
                    await client.publish(subscription.pattern, b"%d" % n)
            for subscription in subscriptions:
                await take_all(subscription, {(subscription.pattern, n): b"%d" % n for n in numbers})

        await publish([lowest, other], range(1, 21))
        with_for = [frames for frames in client.datagrams.seen if frames[0].kind == "For"]
        bare = [frames for frames in client.datagrams.seen if frames[0].kind in ("Topic", "Message")]
        assert {frames[0].request for frames in with_for} >= {other.request}
        assert bare and with_for
        # An ended one remains the lowest.
        await client.unsubscribe(lowest)
        del client.datagrams.seen[:]
        third = await client.subscribe(f"{topic}/c", delivery="Realtime")
        await publish([third], range(1, 21))
        await publish([other], range(21, 41))
        now = {(frames[0].kind, frames[0].get("request")) for frames in client.datagrams.seen}
        now.discard(("Acknowledge", None))
        assert now == {("For", other.request), ("For", third.request)}


@pytest.mark.parametrize("network", NETWORKS)
@scenario
async def test_a_refused_subscription_is_not_the_lowest(daemon, streams, topic, network):
    """Even if what comes in datagrams comes before the refusal."""
    async with daemon.connect("websocket") as publisher, daemon.connect(streams) as client:
        await fill(publisher, topic, 10)
        worsen(client, network, 41)
        _, refusal = client.subscribe_now("**/a", delivery="Realtime")
        subscription, _ = client.subscribe_now(topic, "All", delivery="Realtime")
        for n in range(11, 31):
            await publisher.publish(topic, b"%d" % n)
        await take_all(subscription, {(topic, n): b"%d" % n for n in range(1, 31)})
        await refused("BAD_FILTER", client.wait("the refusal", refusal))


# Repair.


@scenario
async def test_head_tells_of_what_was_lost_at_the_end(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        client.datagrams = Nothing()
        subscription = await client.subscribe(topic, delivery="Realtime", repairs=False)
        subscription.heard = []
        await fill(client, topic, 5)
        await until("the Head", lambda: 5 in [frame.sequence for _, frame in of_kind(subscription, "Head")])
        assert not of_kind(subscription, "Message")
        assert len(of_kind(subscription, "Topic")) == 1


@scenario
async def test_head_is_the_newest_whatever_was_repaired(daemon, streams, topic):
    """Old messages are asked for in datagrams before the daemon has told of the newest, which is lost."""
    async with daemon.connect(streams) as client:
        client.datagrams = Nothing(lambda frame: frame.kind != "Message" or frame.sequence == 1)
        subscription = await client.subscribe(topic, delivery="Realtime", repairs=False)
        subscription.heard = []
        await fill(client, topic, 1)
        await until("the Topic", lambda: of_kind(subscription, "Topic"))
        _, announced = of_kind(subscription, "Topic")[0]
        for n in range(2, 41):
            await client.publish(topic, b"%d" % n)
            client.repair(subscription.request, announced.id, [(1, 1)], True)
        await until("the Head", lambda: 40 in [frame.sequence for _, frame in of_kind(subscription, "Head")])


@scenario
async def test_head_and_repair_bring_what_was_lost_at_the_end(daemon, streams, topic):
    """All that comes in datagrams is lost: what is asked for twice in datagrams comes by stream then."""
    async with daemon.connect(streams) as client:
        client.datagrams = Nothing()
        subscription = await client.subscribe(topic, delivery="Realtime")
        await fill(client, topic, 150)
        await take_all(subscription, {(topic, n): b"%d" % n for n in range(1, 151)})
        assert client.datagrams.lost and subscription.repairs


async def lose_all(client, topic, count, size=1, **options):
    """A subscription that does not ask by itself, and has lost so many messages. Their topic's id."""
    client.datagrams = Nothing()
    subscription = await client.subscribe(topic, delivery="Realtime", repairs=False, **options)
    subscription.heard = []
    await fill(client, topic, count)
    await until("the Head", lambda: count in [frame.sequence for _, frame in of_kind(subscription, "Head")])
    client.datagrams = None
    (_, announced), = of_kind(subscription, "Topic")
    await client.ping()
    return subscription, announced.id


@scenario
async def test_repair_in_a_datagram_is_answered_by_datagrams(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        subscription, id = await lose_all(client, topic, 30)
        holes = [(2, 2), (5, 9), (30, 30)]
        asked = {2, 5, 6, 7, 8, 9, 30}
        come = lambda: {frame.sequence for _, frame in of_kind(subscription, "Message")}
        # Again and again, as a repair may be lost too.
        await until("the messages", lambda: come() >= asked, lambda: client.repair(subscription.request, id, holes, True))
        assert come() == asked, "nothing else comes"
        assert {way for way, _ in of_kind(subscription, "Message")} == {DATAGRAM}


@scenario
async def test_repair_on_control_is_answered_on_the_stream(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        subscription, id = await lose_all(client, topic, 30)
        client.datagrams = Nothing()
        client.repair(subscription.request, id, [(2, 2), (5, 9), (30, 30)])
        found = await take(subscription, 7)
        assert sorted(message.sequence for message in found) == [2, 5, 6, 7, 8, 9, 30]
        assert not client.datagrams.lost
        assert len({way for way, _ in of_kind(subscription, "Message")}) == 1
        # The same once more: nothing is lost there, and what is asked for is sent.
        client.repair(subscription.request, id, [(6, 6), (10, 10)])
        assert [message.sequence for message in await take(subscription, 1)] == [10]


@scenario
async def test_repair_in_a_datagram_leaves_out_what_came_by_stream(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        subscription = await client.subscribe(topic, delivery="Realtime", repairs=False)
        subscription.heard = []
        for payload in (b"1", bytes(20_000), b"3"):
            await client.publish(topic, payload)
        await until("all of them", lambda: {f.sequence for _, f in of_kind(subscription, "Message")} == {1, 2, 3})
        (_, announced), *_ = of_kind(subscription, "Topic")
        del subscription.heard[:]
        await until(
            "the repair",
            lambda: {f.sequence for _, f in of_kind(subscription, "Message")} >= {1, 3},
            lambda: client.repair(subscription.request, announced.id, [(1, 3)], True),
        )
        await client.ping()
        assert {f.sequence for _, f in of_kind(subscription, "Message")} == {1, 3}


@pytest.mark.parametrize("in_datagram", [True, False], ids=["datagram", "control"])
@scenario
async def test_repair_of_what_has_left_the_cache(start, streams, topic, in_datagram):
    daemon = start(WEIR_CACHE__BYTES="1MiB", WEIR_LIMITS__PAYLOAD="128KiB")
    async with daemon.connect("websocket") as publisher, daemon.connect(streams) as client:
        subscription, id = await lose_all(client, topic, 10)
        for n in range(32):
            await publisher.publish(topic, bytes([n]) * SMALL)
        await refused("EVICTED", publisher.get(topic, sequence(10)))
        await until(
            "the Gap",
            lambda: {n for _, f in of_kind(subscription, "Gap") for n in range(f.first, f.last + 1)} >= {2, 3, 4, 9},
            lambda: client.repair(subscription.request, id, [(2, 4), (9, 9)], in_datagram),
        )
        gaps = of_kind(subscription, "Gap")
        assert {frame.cause.kind for _, frame in gaps} == {"Evicted"}
        assert {way for way, _ in gaps} == set(subscription.streams)
        assert {frame.sequence for _, frame in of_kind(subscription, "Message")}.isdisjoint(range(1, 11))


@scenario
async def test_what_has_left_the_cache_is_told(start, streams, topic, delivery):
    """From the beginning of a topic, most of which is gone."""
    daemon = start(WEIR_CACHE__BYTES="1MiB", WEIR_LIMITS__PAYLOAD="128KiB")
    async with daemon.connect("websocket") as publisher, daemon.connect(streams) as client:
        for n in range(32):
            await publisher.publish(topic, bytes([n]) * SMALL)
        subscription = await client.subscribe(topic, sequence(1), delivery=delivery)
        worsen(client, "datagrams are lost", 3)
        told, come = set(), set()
        while len(told) + len(come) < 32:
            item = (await take(subscription, 1))[0]
            if item.kind == "Gap":
                assert item.cause.kind == "Evicted"
                told |= set(range(item.first, item.last + 1))
            else:
                assert item.payload == bytes([item.sequence - 1]) * SMALL
                come.add(item.sequence)
        assert told and come and told | come == set(range(1, 33)) and max(told) < min(come)


@scenario
async def test_what_the_lag_says(start, transport, topic, delivery):
    daemon = start(WEIR_CACHE__BYTES="1MiB", WEIR_LIMITS__PAYLOAD="128KiB")
    async with daemon.connect("websocket") as publisher, daemon.connect(transport) as client:
        for n in range(32):
            await publisher.publish(topic, bytes([n]) * SMALL)
        ends, _ = client.subscribe_now(topic, sequence(1), lag="Disconnect", delivery=delivery)
        assert (await client.wait("Ended", ends.ended)).code == 0x50
        newest = await client.subscribe(topic, sequence(1), lag="Newest", delivery=delivery)
        assert (await newest.next()).next == 1
        gap = await newest.next()
        assert (gap.kind, gap.first, gap.last, gap.cause.kind) == ("Gap", 1, 31, "Skipped")
        await publisher.publish(topic, b"33")
        assert {item.sequence for item in await take(newest, 2)} == {32, 33}


@scenario
async def test_repair_of_what_was_before_the_beginning(daemon, streams, topic):
    """`next` is the first that is sent, whatever is asked for."""
    async with daemon.connect(streams) as client:
        await fill(client, topic, 5)
        subscription = await client.subscribe(topic, sequence(4), delivery="Realtime")
        found = await take(subscription, 2)
        for _ in range(5):
            for in_datagram in (True, False):
                subscription.ask(found[0].topic, [(1, 5)], in_datagram)
                await client.ping()
        await until("a message again", lambda: subscription.repeated)


@scenario
async def test_more_holes_than_are_asked_for_at_once(daemon, streams, topic):
    """Every other message of 400 is lost, and so is what is asked for in datagrams."""
    async with daemon.connect(streams) as client:
        client.datagrams = Nothing(lambda frame: frame.kind != "Message" or frame.sequence % 2 == 0)
        subscription = await client.subscribe(topic, delivery="Realtime")
        for n in range(1, 401):
            client.publish_now(topic, b"%d" % n)
        await take_all(subscription, {(topic, n): b"%d" % n for n in range(1, 401)})


@scenario
async def test_repair_with_64_holes_and_no_more(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        subscription, id = await lose_all(client, topic, 130)
        client.repair(subscription.request, id, [(n, n) for n in range(1, 129, 2)])
        found = await take(subscription, 64)
        assert sorted(message.sequence for message in found) == list(range(1, 129, 2))


@pytest.mark.parametrize(
    "holes",
    [
        [(5, 6), (2, 3)],
        [(2, 5), (5, 6)],
        [(2, 5), (3, 4)],
        [(2, 2), (2, 2)],
        [(3, 2)],
        [(2 * n, 2 * n) for n in range(1, 66)],
    ],
    ids=["unordered", "overlapping", "inside", "twice", "backwards", "too many"],
)
@pytest.mark.parametrize("in_datagram", [True, False], ids=["datagram", "control"])
@scenario
async def test_repair_that_is_none(daemon, streams, topic, holes, in_datagram):
    async with daemon.connect(streams) as client:
        subscription, id = await lose_all(client, topic, 10)
        await until(
            "the end",
            client.gone.done,
            lambda: client.gone.done() or client.repair(subscription.request, id, holes, in_datagram),
        )
        await sent_away(client, "MALFORMED")


@scenario
async def test_repair_of_more_than_64_sequences_in_a_datagram(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        subscription, id = await lose_all(client, topic, 100)
        come = lambda: {frame.sequence for _, frame in of_kind(subscription, "Message")}
        await until(
            "the messages",
            lambda: len(come()) >= 64,
            lambda: client.repair(subscription.request, id, [(1, 100)], True),
        )
        await client.ping()


@pytest.mark.parametrize("in_datagram", [True, False], ids=["datagram", "control"])
@pytest.mark.parametrize(
    "of",
    ["no subscription", "ordered", "unordered over quic", "over", "no topic", "another topic", "nothing", "not yet", "never"],
)
@scenario
async def test_repair_of_what_there_is_not(daemon, streams, topic, of, in_datagram):
    """Nothing comes of it, but for a topic that this subscription was not told of: a `Gap`. The session goes on."""
    async with daemon.connect(streams) as client:
        subscription = await client.subscribe(topic, delivery="Realtime")
        subscription.heard = []
        ordered = await client.subscribe(topic)
        unordered = await client.subscribe(topic, delivery="Unordered")
        over = await client.subscribe(topic, delivery="Realtime")
        await fill(client, topic, 5)
        id = (await take(subscription, 5))[0].topic
        for known in (ordered, unordered, over):
            await take(known, 5)
        await client.unsubscribe(over)
        other = await client.subscribe(f"{topic}/other")
        await client.publish(f"{topic}/other", b"")
        request, asked, holes = {
            "no subscription": (77, id, [(1, 1)]),
            "ordered": (ordered.request, id, [(1, 5)]),
            "unordered over quic": (unordered.request, id, [(1, 5)]),
            "over": (over.request, id, [(1, 5)]),
            "no topic": (subscription.request, id + 1_000_000, [(1, 1)]),
            "another topic": (subscription.request, (await take(other, 1))[0].topic, [(1, 1)]),
            "nothing": (subscription.request, id, []),
            "not yet": (subscription.request, id, [(6, 9)]),
            "never": (subscription.request, id, [(2**64 - 2, 2**64 - 1)]),
        }[of]
        gaps = lambda: of_kind(subscription, "Gap")
        for _ in range(5):
            if request == subscription.request:
                subscription.ask(asked, holes, in_datagram)
            else:
                client.repair(request, asked, holes, in_datagram)
            await client.ping()
        if "topic" in of:
            await until("the Gap", gaps, lambda: subscription.ask(asked, holes, in_datagram))
            assert {(f.topic, f.first, f.last, f.cause.kind) for _, f in gaps()} == {(asked, 1, 1, "Evicted")}
        else:
            assert not gaps()
        await client.publish(topic, b"6")
        if streams == "quic":
            assert not unordered.repeated
        for known in (subscription, ordered, unordered):
            message = await known.message()
            assert (message.sequence, message.payload) == (6, b"6")
        subscription.ask(id, [(1, 1)])
        await until("a message again", lambda: subscription.repeated)
        assert subscription.nothing_more() and ordered.nothing_more() and over.nothing_more()


# Deadlines.


async def pass_time(client, milliseconds):
    """Waits until the daemon's clock has gone on so far."""
    begun = (await client.ping()).clock
    while (await client.ping()).clock < begun + milliseconds * 1000:
        await asyncio.sleep(0.001)


@scenario
async def test_what_is_older_than_the_deadline_is_passed_over(daemon, transport, topic):
    async with daemon.connect(transport) as client:
        await fill(client, topic, 10)
        await pass_time(client, 60)
        subscription = await client.subscribe(topic, "All", delivery="Realtime", deadline=50)
        assert (await subscription.next()).next == 1
        gap = await subscription.next("the Gap")
        assert (gap.kind, gap.first, gap.last, gap.cause.kind) == ("Gap", 1, 10, "Late")


@pytest.mark.parametrize("ignoring", ["Ordered", "Unordered"])
@scenario
async def test_a_deadline_means_nothing_to_the_others(daemon, transport, topic, ignoring):
    async with daemon.connect(transport) as client:
        await fill(client, topic, 10)
        await pass_time(client, 20)
        subscription, _ = client.subscribe_now(topic, "All", delivery=ignoring, deadline=10)
        subscription.deadline = 0
        await take_all(subscription, {(topic, n): b"%d" % n for n in range(1, 11)})


@pytest.mark.parametrize("network", NETWORKS[1:])
@scenario
async def test_with_a_deadline_everything_comes_or_is_told(daemon, streams, topic, network):
    count = 300
    async with daemon.connect("websocket") as publisher, daemon.connect(streams) as client:
        subscription = await client.subscribe(topic, delivery="Realtime", deadline=30)
        worsen(client, network, 17)
        await fill(publisher, topic, count)
        seen = collections.Counter()
        while seen.total() < count:
            item = (await take(subscription, 1))[0]
            if item.kind == "Gap":
                assert item.cause.kind == "Late"
                seen.update(range(item.first, item.last + 1))
            else:
                assert item.payload == b"%d" % item.sequence
                seen[item.sequence] += 1
        assert seen == collections.Counter(range(1, count + 1))


# Resuming.


@pytest.mark.parametrize("network", NETWORKS)
@scenario
async def test_resume_with_holes(daemon, streams, topic, delivery, network):
    """The lowest that is missing is shown, and what was had above it is dropped. Each session reads 40 items, all
    sessions together everything once."""
    count, choice = 300, random.Random(23)
    published, found, start, had = {}, {}, "All", None
    async with daemon.connect("websocket") as publisher:
        sessions = 0
        while len(found) < count:
            async with daemon.connect(streams) as client:
                worsen(client, network, sessions)
                subscription = await client.subscribe(f"{topic}/*", start, delivery=delivery, had=had)
                for _ in range(60 if len(published) < count else 0):
                    name, payload = f"{topic}/{choice.randrange(3)}", choice.randbytes(choice.choice([1, 900, 3000]))
                    published[name, (await publisher.publish(name, payload)).sequence] = payload
                for _ in range(min(40, len(published) - len(found))):
                    message = await subscription.message(f"message {len(found)}")
                    assert (message.name, message.sequence) not in found
                    found[message.name, message.sequence] = message.payload
                start, had = subscription.resume(), subscription.had()
                sessions += 1
    assert found == published and sessions > 4


# Publishing.


def publish_frame(alias, number, payload):
    return Record("Publish", alias=alias, number=number, stamp=0, payload=payload)


@scenario
async def test_published_in_datagrams(daemon, streams, topic):
    """Acknowledged, not receipted; the order of acceptance is that of arrival."""
    async with daemon.connect("websocket") as other, daemon.connect(streams) as client:
        subscription = await other.subscribe(topic)
        client.heard = []
        for n in range(1, 51):
            # Without a fallback to the stream: again and again, until it is acknowledged.
            number = client.producer.number(topic)
            frames = [Record("Topic", alias=1, name=topic), publish_frame(1, number, b"%d" % n)]
            await until(
                "an Acknowledge",
                lambda: any(a.floor >= number for a in client.acknowledged),
                lambda: client.datagram(*frames),
            )
        assert [(await subscription.message()).payload for _ in range(50)] == [b"%d" % n for n in range(1, 51)]
        await client.ping()
        assert {frame.kind for frame in client.heard} <= {"Pong"}
        assert {frame.alias for frame in client.acknowledged} == {1}
        assert [entry.count for entry in await other.top(topic, 100)] == [1] * 50


@scenario
async def test_a_stamp_and_an_empty_payload(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        subscription = await client.subscribe(topic)
        await client.publish_in_datagram(topic, b"", stamp=2**64 - 1)
        message = await subscription.message()
        assert (message.stamp, message.payload) == (2**64 - 1, b"")


@pytest.mark.parametrize("network", ["nothing is lost", "packets are lost", "packets are late", "all datagrams are lost"])
@scenario
async def test_published_in_datagrams_counts_once(daemon, streams, topic, network):
    """Whatever is lost on either way: each publication is accepted, once, and its answer comes."""
    count, size = 300, 20
    async with daemon.connect("websocket") as other, daemon.connect(streams) as client:
        subscription = await other.subscribe(f"{topic}/*")
        worsen(client, network, 29)
        if network == "all datagrams are lost":
            client.datagrams = Nothing()  # the acknowledgements
        payload = lambda n: b"%d" % (n % size) * (1 if n % 7 else 400)
        answers = []
        for n in range(count):
            answers.append(client.publish_in_datagram_now(f"{topic}/{n % 2}", payload(n)))
            if n % 10 == 9:
                await client.wait("an answer", answers[n - 9])
        for answer in answers:
            frame = await client.wait("an answer", answer)
            assert frame.kind == "Acknowledge" or frame.kind == "Receipt"
        seen = collections.Counter()
        for _ in range(count):
            message = await subscription.message()
            seen[message.name, message.payload] += 1
            assert message.count == seen[message.name, message.payload]
        assert seen == collections.Counter((f"{topic}/{n % 2}", payload(n)) for n in range(count))
        await other.ping()
        assert subscription.nothing_more()
        if network == "all datagrams are lost":
            assert not client.acknowledged


@scenario
async def test_thrice_in_datagrams_and_once_on_the_stream(daemon, streams, topic):
    count, kinds = 200, 10
    async with daemon.connect("websocket") as other, daemon.connect(streams) as client:
        subscription = await other.subscribe(topic)
        worsen(client, "packets are late", 31)
        stream = Stream(client.transport)
        alias = client.alias(topic)
        declaration = Record("Topic", alias=alias, name=topic)
        receipts = []
        for n in range(1, count + 1):
            frame = publish_frame(alias, n, b"%d" % (n % kinds))
            client.datagram(declaration, frame)
            client.datagram(declaration, frame)
            receipts.append(client.publish_now(topic, frame.payload, number=n, stream=stream))
            client.datagram(declaration, frame)
        receipts = [await client.wait("a receipt", receipt) for receipt in receipts]
        assert {receipt.sequence for receipt in receipts} == set(range(1, count + 1))
        for receipt in receipts:
            assert receipt.digest == digest(b"%d" % (receipt.number % kinds))
        messages = [await subscription.message() for _ in range(count)]
        by_sequence = {receipt.sequence: receipt for receipt in receipts}
        for message in messages:
            assert message.payload == b"%d" % (by_sequence[message.sequence].number % kinds)
            assert message.count == by_sequence[message.sequence].count
        await client.ping()
        await other.ping()
        assert subscription.nothing_more()
        assert sorted(entry.count for entry in await other.top(topic)) == [count // kinds] * kinds


@scenario
async def test_several_publications_in_a_datagram_and_out_of_order(daemon, streams, topic):
    """What `Acknowledge` says of numbers that are missing."""
    async with daemon.connect(streams) as client:
        declaration = Record("Topic", alias=1, name=topic)
        numbers = [2, 5, 4, 64, 66]
        frames = [declaration, *(publish_frame(1, n, b"%d" % n) for n in numbers)]
        seen = sum(1 << n - 1 for n in numbers if n <= 64)
        beyond = client.expect(1, 66)
        acknowledged = lambda floor, seen: Record("Acknowledge", alias=1, floor=floor, seen=seen)
        await until(
            "0 and a bit for each",
            lambda: acknowledged(0, seen) in client.acknowledged,
            lambda: client.datagram(*frames),
        )
        receipt = await client.wait("a receipt for what is beyond", beyond)
        assert (receipt.kind, receipt.count, receipt.digest) == ("Receipt", 1, digest(b"66"))
        await until(
            "2 and the others",
            lambda: acknowledged(2, 0b110 | 1 << 61 | 1 << 63) in client.acknowledged,
            lambda: client.datagram(declaration, publish_frame(1, 1, b"1")),
        )
        assert (await client.get(topic)).sequence == 6


@scenario
async def test_an_alias_that_is_not_declared_is_ignored_in_a_datagram(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        await until(
            "an Acknowledge of the other",
            lambda: client.acknowledged,
            lambda: client.datagram(
                publish_frame(9, 1, b"unknown"),
                publish_frame(1, 1, b"not yet known") if not client.acknowledged else publish_frame(9, 1, b""),
                Record("Topic", alias=1, name=topic),
                publish_frame(1, 2, b"known"),
            ),
        )
        await client.ping()
        assert {frame.alias for frame in client.acknowledged} == {1}
        client._aliases[topic] = 1
        assert (await client.publish(topic, b"after", number=3)).sequence in (2, 3)


@scenario
async def test_an_alias_declared_on_a_stream_holds_in_datagrams(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        await client.publish(topic, b"1")
        await until(
            "an Acknowledge",
            lambda: any(a.floor == 2 for a in client.acknowledged),
            lambda: client.datagram(publish_frame(1, 2, b"2")),
        )
        assert (await client.get(topic)).payload == b"2"


@scenario
async def test_an_alias_declared_anew_in_a_datagram(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        await client.publish(topic, b"1")
        data = encode(Record("Topic", alias=1, name=topic + "/other"))
        await until("the end", client.gone.done, lambda: client.gone.done() or client.transport.send_datagram(data))
        await sent_away(client, "BAD_ALIAS")


@scenario
async def test_what_is_refused_in_a_datagram_is_rejected(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        await refused("BAD_TOPIC", client.publish_in_datagram(f"{topic}/*", b""))
        await refused("RESERVED", client.publish_in_datagram("$weir/stats", b""))
        await refused("STALE", client.publish_in_datagram(topic, b"", number=0))
        await client.publish_in_datagram(topic, b"", number=2000)
        await refused("STALE", client.publish_in_datagram(topic, b"", number=1))
        await client.publish_in_datagram(topic, b"", number=2001)
        assert (await client.get(topic)).sequence == 2


@scenario
async def test_a_producer_in_two_sessions(daemon, streams, topic):
    """Numbers that another session had accepted are acknowledged, and not counted."""
    producer = Producer()
    async with daemon.connect("websocket", producer=producer) as client:
        await fill(client, topic, 5)
    async with daemon.connect(streams, producer=producer) as client:
        for n in range(1, 7):
            await client.publish_in_datagram(topic, b"%d" % n, number=n)
        assert (await client.get(topic)).sequence == 6


# What ends a session, and what does not.


DAMAGED = [v["hex"] for v in INVALID if v["to"] == "daemon" and v["kind"] in ("prefix", "frame", "end")]


async def insist(client, data):
    """Sends a datagram until the session is over."""
    await until("the end", client.gone.done, lambda: client.gone.done() or client.transport.send_datagram(data))


@scenario
async def test_a_datagram_that_does_not_decode(daemon, streams, topic):
    whole = encode(Record("Topic", alias=1, name=topic))
    damages = [bytes.fromhex(hex) for hex in DAMAGED]
    damages = [data for data in damages if len(data) < 1000]
    damages += [whole[:-1], whole + whole[:-1], whole + b"\0", b"\0", b"\x80", b"\xff" * 5]
    for data in damages:
        async with daemon.connect(streams) as client:
            await insist(client, data)
            await sent_away(client, "MALFORMED")


@pytest.mark.parametrize(
    "frame",
    [
        Record("Hello", version=1, producer=bytes(16), token=None, agent=""),
        Record("Subscribe", request=1, filter="a", start="New", delivery="Realtime", lag="Oldest", deadline=0),
        Record("Unsubscribe", subscription=1),
        Record("Get", request=1, topic="a", which="Latest"),
        Record("Top", request=1, topic="a", k=1),
        Record("Ping", request=1),
        Record("Goodbye", code=0, reason=""),
    ],
    ids=lambda frame: frame.kind,
)
@scenario
async def test_a_frame_that_may_not_be_in_a_datagram(daemon, streams, frame):
    async with daemon.connect(streams) as client:
        await insist(client, encode(frame))
        await sent_away(client, "UNEXPECTED")


@pytest.mark.parametrize(
    "frame",
    [
        Record("Begin", alias=1, number=1, stamp=0, size=1),
        Record("Chunk", bytes=b""),
        Record("End", digest=bytes(32)),
    ],
    ids=lambda frame: frame.kind,
)
@scenario
async def test_parts_of_a_large_payload_in_a_datagram(daemon, streams, frame):
    async with daemon.connect(streams) as client:
        await insist(client, encode(frame))
        await sent_away(client, "UNEXPECTED")


@scenario
async def test_datagrams_before_the_hello(daemon, streams, topic):
    """They are ignored or held, and count once."""
    async with daemon.connect(streams, hello=False) as client:
        for _ in range(3):
            client.datagram(Record("Topic", alias=1, name=topic), publish_frame(1, 1, b"early"))
            client.transport.transmit()
        client.hello_now()
        assert client.alias(topic) == 1
        receipt = await client.publish(topic, b"early", number=1)
        assert (receipt.sequence, receipt.count) == (1, 1)
        assert (await client.publish(topic, b"early", number=2)).count == 2


@scenario
async def test_an_empty_datagram_says_nothing(daemon, streams, topic):
    async with daemon.connect(streams) as client:
        for _ in range(10):
            client.transport.send_datagram(b"")
            await client.ping()
        await client.publish_in_datagram(topic, b"still here")
