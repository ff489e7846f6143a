"""WebSocket: what is special about one channel, and about messages. All else is in test_daemon.py."""

import asyncio

import pytest

from client import Assembly, Refused, code_name
from codec import Record, encode
from support import fill, scenario, sent_away, sequence, too_long

MIB = 1 << 20


@pytest.fixture(params=["websocket", "plain websocket"])
def websocket(request):
    """With TLS, and without it at the address for HTTP."""
    return request.param


def frames(*parts):
    return b"".join(encode(part) for part in parts)


def hello(client):
    return Record("Hello", version=1, producer=client.producer.id, token=None, agent="thirdparty/1")


def attributed(heard):
    """The frames that belong to a request, by `For` alone: a list of (request, frame)."""
    request, found, assemblies = None, [], {}
    for frame in heard:
        if frame.kind == "For":
            request = frame.request
        elif frame.kind in ("Topic", "Message", "Begin", "Chunk", "End", "Abort", "Gap", "Head"):
            assert request is not None, f"{frame} before any For"
            whole = assemblies.setdefault(request, Assembly(16 * MIB)).take(frame)
            if whole is not None:
                found.append((request, whole))
    return found


# The address.


@scenario
async def test_publish_subscribe_and_get(daemon, websocket, topic):
    async with daemon.connect(websocket) as client:
        subscription = await client.subscribe(f"{topic}/*")
        for n, payload in enumerate([b"", bytes(range(256)), b"x" * MIB], 1):
            assert (await client.publish(f"{topic}/a", payload)).sequence == n
            message = await subscription.message()
            assert (message.sequence, message.payload) == (n, payload)
            assert (await client.get(f"{topic}/a")).payload == payload


@pytest.mark.parametrize("path", ["/", "/weir/", "/other"])
@scenario
async def test_another_path(daemon, websocket, path, monkeypatch):
    monkeypatch.setattr("transport.WebSocket.PATH", path)
    with pytest.raises(ConnectionError, match="HTTP (200|404)"):
        async with daemon.connect(websocket):
            pass


@scenario
async def test_no_upgrade(daemon):
    for secure in (False, True):
        async with daemon.web(secure).open() as web:
            status, headers, _ = await web.request("GET", "/weir")
            assert 400 <= status < 500, headers


# One channel.


@scenario
async def test_every_frame_belongs_to_the_request_of_the_last_for(daemon, websocket, topic):
    """Two subscriptions that overlap, and gets, while the same session publishes: who gets what is told by `For`."""
    count, large = 120, bytes(100_000)
    async with daemon.connect(websocket) as client:
        client.heard = []
        await client.publish(f"{topic}/kept", b"one to get")
        await client.publish(f"{topic}/kept", large)
        both, _ = client.subscribe_now(f"{topic}/*", "All")
        one, _ = client.subscribe_now(f"{topic}/1", "All")
        receipts, gets = [], []
        for n in range(count):
            receipts.append(client.publish_now(f"{topic}/{n % 3}", str(n).encode()))
            if n % 4 == 0:
                gets.append((1, client.get_now(f"{topic}/kept", sequence(1))))
            if n % 20 == 0:
                gets.append((2, client.get_now(f"{topic}/kept", sequence(2))))
                await client.wait("a receipt", receipts[-1])

        kept = [(f"{topic}/kept", b"one to get"), (f"{topic}/kept", large)]
        published = [(f"{topic}/{n % 3}", str(n).encode()) for n in range(count)]
        got = [await both.message() for _ in range(2 + count)]
        assert [(message.name, message.payload) for message in got] == kept + published
        got = [await one.message() for _ in range(count // 3)]
        assert [(message.name, message.payload) for message in got] == published[1::3]
        for number, get in gets:
            message = await client.wait("the answer to a Get", get)
            assert (message.sequence, (message.name, message.payload)) == (number, kept[number - 1])
        assert {(await client.wait("a receipt", receipt)).duplicate for receipt in receipts} == {False}
        await client.ping()
        assert both.nothing_more() and one.nothing_more()

        # The same once more, without anything that the client believes to know.
        shares = {}
        for request, frame in attributed(client.heard):
            shares.setdefault(request, []).append(frame)
        assert len(shares) == 2 + len(gets)
        assert [f.payload for f in shares.pop(both.request) if f.kind == "Message"] == [p for _, p in kept + published]
        assert [f.payload for f in shares.pop(one.request) if f.kind == "Message"] == [p for _, p in published[1::3]]
        assert all([frame.kind for frame in share] == ["Topic", "Message"] for share in shares.values())
        named = [frame.request for frame in client.heard if frame.kind == "For"]
        assert len(named) > len(gets), "the requests take turns"


@scenario
async def test_other_frames_change_nothing_about_the_last_for(daemon, websocket, topic):
    """Receipts and pongs stand between messages, and the daemon need not repeat its `For` after them."""
    async with daemon.connect(websocket) as client:
        client.heard = []
        subscription = await client.subscribe(topic)
        for n in range(10):
            await client.publish(topic, str(n).encode())
            await client.ping()
            assert (await subscription.message()).payload == str(n).encode()
        assert [request for request, _ in attributed(client.heard)] == [subscription.request] * 11
        kinds = [frame.kind for frame in client.heard]
        first, last = kinds.index("Message"), len(kinds) - 1 - kinds[::-1].index("Message")
        assert {"Receipt", "Pong"} <= set(kinds[first:last])


@scenario
async def test_a_hundred_gets_at_once(daemon, websocket, topic):
    """More than there may be streams: found and not found, each answer is that of its request."""
    async with daemon.connect(websocket) as client:
        await fill(client, topic, 50)
        gets = [client.get_now(topic, sequence(n)) for n in range(1, 151)]
        for n, get in enumerate(gets, 1):
            if n <= 50:
                message = await client.wait(f"message {n}", get)
                assert (message.sequence, message.payload) == (n, str(n).encode())
            else:
                with pytest.raises(Refused, match="NOT_FOUND"):
                    await client.wait(f"message {n}", get)


@scenario
async def test_given_up_and_taken_up_again(daemon, websocket, topic):
    """What a client does whose program is slow: it unsubscribes, drops what still comes, and resumes."""
    count = 300
    async with daemon.connect("quic") as publisher, daemon.connect(websocket) as client:
        await publisher.publish(f"{topic}/0", b"0")
        subscription = await client.subscribe(f"{topic}/*", "All")
        for n in range(1, count):
            publisher.publish_now(f"{topic}/{n % 3}", str(n).encode())
        for n in range(count):
            if n % 50 == 25:
                ended = client.unsubscribe_now(subscription)
                subscription, _ = client.subscribe_now(f"{topic}/*", subscription.resume())
                assert (await client.wait("Ended", ended)).code == 0
            assert (await subscription.message(f"message {n}")).payload == str(n).encode()


# Messages.


@scenario
async def test_several_frames_in_one_message(daemon, websocket, topic):
    """A whole session in one message."""
    payloads = [b"", b"hello", bytes(100_000)]
    async with daemon.connect(websocket, hello=False) as client:
        with client.transport.one_message():
            client.hello_now()
            subscription, subscribed = client.subscribe_now(topic)
            receipts = [client.publish_now(topic, payload) for payload in payloads]
            get = client.get_now(topic, sequence(2))
        await client.wait("the Welcome", client.welcome)
        await client.wait("Subscribed", subscribed)
        assert [(await client.wait("a receipt", receipt)).sequence for receipt in receipts] == [1, 2, 3]
        assert [(await subscription.message()).payload for _ in payloads] == payloads
        assert (await client.wait("the answer", get)).payload == b"hello"


@pytest.mark.parametrize("size", [1, 1000])
@scenario
async def test_fragments_mean_nothing(daemon, websocket, topic, size):
    """A message in pieces, with a ping between any two."""
    async with daemon.connect(websocket) as client:
        pongs = []
        client.transport.on_pong = pongs.append
        client._aliases[topic] = 1
        receipt = client._wait_for((1, 1))
        payload = bytes(range(256)) * size
        data = frames(
            Record("Topic", alias=1, name=topic), Record("Publish", alias=1, number=1, stamp=0, payload=payload)
        )
        step = len(data) // 7
        pieces = [data[at : at + step] for at in range(0, len(data), step)] + [b""]
        for n, piece in enumerate(pieces):
            client.transport.write_fragment(piece, first=n == 0, last=n == len(pieces) - 1)
            client.transport.ping(b"%d" % n)
        assert (await client.wait("the receipt", receipt)).sequence == 1
        assert (await client.get(topic)).payload == payload
        assert pongs == [b"%d" % n for n in range(len(pieces))]


@scenario
async def test_an_empty_message_says_nothing(daemon, websocket, topic):
    async with daemon.connect(websocket, hello=False) as client:
        client.control.write(b"")
        client.hello_now()
        client.control.write(b"")
        assert (await client.publish(topic, b"after it")).sequence == 1


@pytest.mark.parametrize("before", [True, False], ids=["before the hello", "after the hello"])
@pytest.mark.parametrize(
    "code, send",
    [
        ("MALFORMED", lambda c: c.transport.write_text("text")),
        ("MALFORMED", lambda c: c.transport.write_text("")),
        ("MALFORMED", lambda c: c.control.write(frames(Record("Ping", request=1))[:-1])),
        ("MALFORMED", lambda c: c.control.write(b"\x80")),
        ("MALFORMED", lambda c: c.control.write(frames(hello(c))[:1])),
        ("MALFORMED", lambda c: c.control.write(b"\0")),
        ("FRAME_TOO_LARGE", lambda c: c.control.write(b"\xff\xff\xff\xff\x0f")),
        # 16 KiB and a byte, of which the first says Ping.
        ("FRAME_TOO_LARGE", lambda c: c.control.write(b"\x81\x80\x01\x0a")),
        ("MALFORMED", lambda c: c.transport.write_raw(b"\x82\0")),
        ("MALFORMED", lambda c: c.transport.write_raw(b"\x80\x80" + bytes(4))),
        ("MALFORMED", lambda c: c.transport.write_raw(b"\xc2\x80" + bytes(4))),
        ("MALFORMED", lambda c: c.transport.write_raw(b"\x83\x80" + bytes(4))),
    ],
    ids=["text", "empty text", "inside a frame", "inside a length", "after a length", "length 0", "too long", "too long for a ping"]
    + ["no mask", "a continuation of nothing", "a reserved bit", "a reserved opcode"],
)
@scenario
async def test_what_is_no_message_ends_its_session_alone(daemon, websocket, topic, code, send, before):
    async with daemon.connect("websocket") as bystander:
        subscription = await bystander.subscribe(topic)
        await bystander.publish(topic, b"before")
        async with daemon.connect(websocket, hello=not before) as client:
            send(client)
            await sent_away(client, code)
        await bystander.publish(topic, b"after")
        assert [(await subscription.message()).payload for _ in range(2)] == [b"before", b"after"]


@scenario
async def test_a_frame_does_not_go_on_in_the_next_message(daemon, websocket, topic):
    """Two messages that would be one publication together. The frame before them is whole, and stands."""
    async with daemon.connect(websocket) as client:
        await client.publish(topic, b"first")
        second, third = (
            frames(Record("Publish", alias=1, number=n, stamp=0, payload=b"number %d" % n)) for n in (2, 3)
        )
        receipt = client._wait_for((1, 2))
        client.control.write(second + third[:5])
        client.control.write(third[5:])
        await sent_away(client, "MALFORMED")
        assert (await receipt).sequence == 2
    async with daemon.connect(websocket) as other:
        assert (await other.get(topic)).payload == b"number 2"


@scenario
async def test_the_largest_message(start, websocket, topic):
    """`limits.payload` + 1 MiB, whatever is in it, and not a byte more."""
    limit = 64 * 1024
    longest = limit + MIB
    async with start(WEIR_LIMITS__PAYLOAD=str(limit)).connect(websocket) as client:
        await client.publish(topic, b"")
        with client.transport.one_message() as message:
            receipts = [client.publish_now(topic, bytes(limit)) for _ in range(16)]
            receipts.append(client.publish_now(topic, bytes(longest - len(message) - 10)))
            assert len(message) == longest
        for receipt in receipts:
            assert not (await client.wait("a receipt", receipt)).duplicate
        client.control.write(bytes(longest + 1))
        await sent_away(client, "FRAME_TOO_LARGE")


# The end.


@scenario
async def test_close_codes(daemon, start, websocket):
    """4000 and the code, behind a Goodbye with the same code and reason."""
    stopping = start()
    cases = [
        (daemon, 0x10, lambda c: c.transport.write_text("")),
        (daemon, 0x12, lambda c: c.hello_now()),
        (daemon, 0x12, lambda c: c.control.send("Chunk", bytes=b"x")),
        (daemon, 0x14, lambda c: c.control.write(too_long(c))),
        (daemon, 0x24, lambda c: c.control.send("Publish", alias=9, number=1, stamp=0, payload=b"")),
        (stopping, 0x01, lambda _: stopping.terminate()),
    ]
    for server, code, act in cases:
        async with server.connect(websocket) as client:
            act(client)
            await sent_away(client, code_name(code), retry=code == 0x01)
            assert client.transport.close_code == 4000 + code


@scenario
async def test_a_version_that_is_not_spoken(daemon, websocket):
    async with daemon.connect(websocket, hello=False) as client:
        client.hello_now(version=2)
        await sent_away(client, "VERSION")
        assert client.transport.close_code == 4000 + 0x11


@scenario
async def test_a_client_that_says_goodbye(daemon, websocket, topic):
    """The daemon says nothing more, and closes with `DONE`: 1000."""
    async with daemon.connect(websocket) as client:
        await client.subscribe(topic)
        client.control.send("Goodbye", code=0, reason="")
        gone = await client.wait("the close", client.gone)
        assert (gone.code, gone.goodbye, client.transport.close_code) == ("DONE", None, 1000)


@pytest.mark.parametrize("code", [1000, 1001, 4016])
@scenario
async def test_a_client_that_closes_without_goodbye(daemon, websocket, code):
    async with daemon.connect(websocket) as client:
        client.transport.close(code)
        gone = await client.wait("the close", client.gone)
        assert gone.goodbye is None
        assert client.transport.close_code == code


@pytest.mark.parametrize("how", ["goodbye", "close", "gone"])
@scenario
async def test_what_has_a_receipt_stays_when_the_client_leaves(daemon, websocket, topic, how):
    async with daemon.connect(websocket) as client:
        await client.publish(topic, b"stays")
        match how:
            case "goodbye":
                client.leave()
            case "close":
                client.transport.close(1000)
            case "gone":
                client.transport.abort()
        async with daemon.connect(websocket) as other:
            assert (await other.get(topic)).payload == b"stays"


# Who is alive.


@scenario
async def test_a_ping_is_answered(daemon, websocket):
    """With what it held, before the hello and after it."""
    async with daemon.connect(websocket, hello=False) as client:
        client.transport.fall_silent()
        pongs = asyncio.Queue()
        client.transport.on_pong = pongs.put_nowait
        for payload in (b"", b"before", bytes(125)):
            client.transport.ping(payload)
            assert await client.wait("a pong", asyncio.ensure_future(pongs.get())) == payload
        client.hello_now()
        await client.wait("the Welcome", client.welcome)
        client.transport.ping(b"after")
        assert await client.wait("a pong", asyncio.ensure_future(pongs.get())) == b"after"


@scenario
async def test_who_answers_pings_stays_and_who_does_not_is_dropped(daemon):
    """The daemon pings after 10 s of silence, and drops after 30 s. Neither session sends anything by itself."""
    async with daemon.connect("websocket") as polite, daemon.connect("websocket") as deaf:
        polite.transport.fall_silent()
        deaf.transport.fall_silent(answer_pings=False)
        gone = await asyncio.wait_for(asyncio.shield(deaf.gone), 60)
        assert deaf.transport.pinged, "asked before it was dropped"
        assert len(polite.transport.pinged) >= 2
        assert not polite.gone.done()
        await polite.ping()
        assert gone.code == "TIMED_OUT" or gone.close == "code 0x3ee", gone
