"""What the tests have in common."""

import asyncio
import functools

import pytest

from client import Refused
from codec import CONTROL_LIMIT, PAYLOAD_OVERHEAD, U32, Record

LONGEST = 120
"""Seconds that a whole test may take, however many waits it has."""


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
    """The daemon says goodbye with this code, and closes with it too, where closing is not up to the client."""
    gone = await client.wait(f"the end of the session, with {code},", client.gone)
    assert client.goodbye is not None, f"no Goodbye before the end: {gone}"
    assert (gone.code, client.goodbye.retry) == (code, retry), gone
    if not client.transport.client_closes:
        assert gone.close == code
    if client.transport.ONE_CHANNEL:
        reason = client.goodbye.reason.encode()
        assert reason.startswith(gone.close_reason.encode()) and (gone.close_reason or not reason)


async def fill(client, topic, count):
    """Publishes 1, 2, 3 … to a topic."""
    for n in range(1, count + 1):
        receipt = await client.publish(topic, str(n).encode())
        assert receipt.sequence == n


def too_long(client):
    """The length of a frame that no daemon takes, without the frame."""
    length = bytearray()
    U32.encode(length, max(client.welcome.result().limits.payload + PAYLOAD_OVERHEAD, CONTROL_LIMIT) + 1)
    return bytes(length)
