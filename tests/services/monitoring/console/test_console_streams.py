"""Parts of pages as server-sent events: they end with the session, they are bounded, and a console that stops ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.responses import Response, StreamingResponse

from headrace.hop.errors import Code, Fault, Reason
from services.monitoring.console.web.streams import Streams
from tests.services.monitoring.console.console_place import Place


async def part() -> str:
    return "<p>one</p>\n<p>two</p>"


def body(response: Response) -> AsyncIterator[str]:
    assert isinstance(response, StreamingResponse)
    assert response.media_type == "text/event-stream"
    return response.body_iterator  # type: ignore[return-value]  # ours yields text


def quick(most: int = 2, clock: Callable[[], float] = lambda: 0.0) -> Streams:
    return Streams(clock, 0.001, most)


async def test_a_part_is_sent_until_the_session_ends() -> None:
    alive = [True, True, False]
    stream = body(quick().response(lambda: alive.pop(0), part))
    events = [event async for event in stream]
    assert events == ["event: part\ndata: <p>one</p>\ndata: <p>two</p>\n\n"] * 2 + ["event: ended\ndata:\n\n"]


async def test_what_can_t_be_shown_now_is_said_and_the_stream_goes_on() -> None:
    told = Fault(Code.UNAVAILABLE, Reason.REASON_RELEASES_UNAVAILABLE, "it is away")
    answers: list[Fault | str] = [told, "back"]

    async def sometimes() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Fault):
            raise answer
        return answer

    stream = body(quick().response(lambda: True, sometimes))
    events = [await anext(stream), await anext(stream)]
    assert events == ["event: problem\ndata: it is away\n\n", "event: part\ndata: back\n\n"]


async def test_streams_are_bounded_and_one_that_ends_makes_room() -> None:
    streams = quick(most=1)
    first = body(streams.response(lambda: True, part))
    await anext(first)
    # 204: an EventSource does not come again, and the page polls.
    assert streams.response(lambda: True, part).status_code == 204
    await first.aclose()  # type: ignore[attr-defined]  # a generator
    assert streams.response(lambda: True, part).status_code == 200


async def test_a_console_that_stops_ends_its_streams_at_once() -> None:
    streams = Streams(lambda: 0.0, every_s=3600)
    waiting = asyncio.ensure_future(anext(body(streams.response(lambda: True, part)), "over"))
    await asyncio.sleep(0)
    streams.close()
    assert await waiting == "over"
    assert streams.response(lambda: True, part).status_code == 204


async def test_a_stream_ends_by_itself_so_that_the_browser_comes_with_its_newest_cookie() -> None:
    now = [0.0]
    stream = body(quick(clock=lambda: now[0]).response(lambda: True, part))
    await anext(stream)
    now[0] = 1000.0
    assert [event async for event in stream] == []


@pytest.mark.parametrize("path", ["/now/stream", "/pipelines/flights/now/stream"])
async def test_a_stream_needs_a_session_and_tells_of_what_there_is_not(place: Place, path: str) -> None:
    async with place.browser() as browser:
        refused = await browser.get(path, accept="text/event-stream")
        await browser.sign_in(place.keys["operator"])
        shown = await browser.get(path, accept="text/event-stream")
        missing = await browser.get("/pipelines/none/now/stream")
    # What an EventSource understands; it tells nothing.
    assert refused.text == "event: ended\ndata:\n\n"
    assert (shown.status, shown.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert missing.status == 404
