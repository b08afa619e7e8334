"""Who waits for a body waits no longer than it may, and hears of every other cancellation."""

import asyncio
import math

import pytest

from headrace.hop.errors import Code, Fault
from services.ingress.config import Limits
from services.ingress.protocols.body.bodies import Bodies
from services.ingress.request_context import RequestContext, begin
from tests.services.clock import Clock


def context(deadline: float = math.inf, **headers: str) -> RequestContext:
    made = begin(
        "Predict", {k.replace("_", "-").encode(): v.encode() for k, v in headers.items()}, 100.0, 0.0
    )
    made.deadline = deadline
    return made


async def never() -> dict[str, object]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_somebody_elses_cancellation_goes_on() -> None:
    task = asyncio.create_task(Bodies(Limits(), Clock(100.0)).read(never, context(), 1000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_stays_behind() -> None:
    clock, pieces = Clock(100.0), [b"ab", b"cd", b""]
    bodies = Bodies(Limits(), clock)

    async def receive() -> dict[str, object]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    assert await bodies.read(receive, context(), 4) == b"abcd"
    pieces += [b"abc", b"de", b"f"]
    with pytest.raises(Fault):
        await bodies.read(receive, context(), 4)
    assert (bodies._arriving, dict(bodies._of), len(bodies._timeouts._timeouts)) == (0, {}, 0)


async def test_a_body_that_announces_little_too_much_is_read_and_one_of_much_is_not() -> None:
    read = 0

    async def receive() -> dict[str, object]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 50, "more_body": read % 3 != 0}

    bodies = Bodies(Limits(), Clock(100.0))
    for announced, pieces in ((150, 3), (1500, 0)):
        read = 0
        with pytest.raises(Fault) as caught:
            await bodies.read(receive, context(content_length=str(announced)), 100)
        assert (caught.value.code, read) == (Code.RESOURCE_EXHAUSTED, pieces)
    with pytest.raises(Fault, match="content-length"):
        await bodies.read(receive, context(content_length="-1"), 100)
