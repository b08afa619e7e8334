"""The console as the monitoring service runs it: on a real socket, from its settings, with the counts of a router; parts of
pages as server-sent events, which end with the session and are bounded."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.events import messages
from headrace.hop.config import ConfigError
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import served
from headrace.pipeline import parse
from headrace.ticks import Tick
from headrace.ticks.messages import write
from services.monitoring.console.web.streams import Streams
from services.monitoring.wiring import SERVICE
from tests.ports import free_port
from tests.released import keep_document, released
from tests.services.monitoring.console.console_place import Place
from tests.services.monitoring.console.console_requests import DOCUMENT, REQUEST, answered
from tests.services.monitoring.monitoring_calls import call


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Its releases are at a control, which the service asks."""
    with released(tmp_path / "control") as releases:
        made = Place(tmp_path, releases.store, control=releases.client)
        made.deploy()
        yield made


def settings(place: Place, port: int, **more: object) -> dict[str, Any]:
    own = place.settings(f"127.0.0.1:{port}").model_copy(update=more).model_dump(mode="json")
    return {
        "control": place.control,
        "rollouts": str(place.folder / "rollouts"),
        "console": own,
    }


async def get(port: int, path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
    def blocking() -> tuple[int, Mapping[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", path, headers=dict(headers))
        reply = connection.getresponse()
        found = reply.status, dict(reply.getheaders()), reply.read()
        connection.close()
        return found

    while True:
        try:
            return await asyncio.to_thread(blocking)
        except ConnectionError:
            await asyncio.sleep(0.05)  # it binds its address a moment after the service is ready


async def test_the_service_serves_it_from_its_settings_alone(place: Place) -> None:
    port = free_port()
    key = {"x-api-key": place.keys["operator"]}
    async with served(SERVICE, settings(place, port)) as harness:
        place.answer(500, 1)
        await call(harness, "ReportTicks", write(Tick(1, 1, 0, dict(place.arms))))
        status, headers, body = await get(port, "/index.json", key)
        assert status == 200
        found = json.loads(body)
        assert found["routers"] == 1
        sentence = found["pipelines"][0]["assessment"]["sentence"]
        assert "1of500rowsfailed" in sentence.replace(" ", "")
        # What another process commits is seen at the next look.
        place.deploy(version="2")
        again = json.loads((await get(port, "/index.json", key))[2])
        assert [c["release"]["number"] for c in again["pipelines"]] == [2]
        assert "server" not in {name.lower() for name in headers}
        signed_out = await get(port, "/", {})
        assert (signed_out[0], signed_out[1]["location"]) == (303, "/sign-in")
        trails = json.loads((await get(port, "/audit.json", key))[2])["trails"]
        assert trails == []


async def test_the_service_s_own_events_outcomes_and_audit_are_on_its_pages(place: Place) -> None:
    port, key = free_port(), {"x-api-key": place.keys["operator"]}
    given = settings(place, port)
    given["events"] = {"folder": str(place.folder / "events")}
    revision = parse(DOCUMENT, "flights").revision
    keep_document(place.store, "flights", revision, DOCUMENT)
    async with served(SERVICE, given) as harness:
        events = messages.write("router-1", 7, 10, [answered(revision, time.time())])
        await call(harness, "RecordEvents", events)
        label = monitoring_pb2.Outcome(request_id=REQUEST, name="late", label=True)
        told = monitoring_pb2.RecordOutcomesRequest(tenant="acme", outcomes=[label])
        await call(harness, "RecordOutcomes", told)
        found = json.loads((await get(port, f"/requests.json?id={REQUEST}", key))[2])["found"]
        panels = json.loads((await get(port, "/pipelines/flights.json", key))[2])["panels"]
        log = json.loads((await get(port, "/audit/log.json", key))[2])
    assert [p["row"] for p in found["predictions"]] == [0, 1]
    assert [(o["name"], o["value"]) for o in found["predictions"][0]["outcomes"]] == [("late", True)]
    assert "headrace trace" in found["no_trace"]
    assert "Freshness of features" in [panel["title"] for panel in panels]
    assert all(line["holds"] for line in log["lines"])
    assert log["lines"][0]["action"] == "document.store"


async def test_a_stream_sends_parts_over_a_socket_and_does_not_hold_up_the_end(place: Place) -> None:
    port = free_port()
    async with served(SERVICE, settings(place, port)):
        assert (await get(port, "/index.json", {"x-api-key": place.keys["operator"]}))[0] == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        key = place.keys["operator"]
        writer.write(f"GET /now/stream HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {key}\r\n\r\n".encode())
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
            first = await reader.readuntil(b"event: part\ndata: ")
    assert b"text/event-stream" in head
    assert first
    async with asyncio.timeout(60):
        while await reader.read(1 << 16):  # until its end
            pass
    writer.close()


async def test_an_address_in_use_stops_nothing_and_is_taken_when_it_is_free(place: Place) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with served(SERVICE, settings(place, port)) as harness:
            # The service itself serves.
            reply = await call(harness, "ReportTicks", write(tick_of(place)))
            assert not reply.behind
            other.close()
            status, _, _ = await get(port, "/index.json", {"x-api-key": place.keys["operator"]})
            assert status == 200


def tick_of(place: Place) -> Tick:
    place.answer(1)
    return Tick(1, 1, 0, dict(place.arms))


async def test_without_the_setting_there_is_no_console(place: Place) -> None:
    given = settings(place, free_port())
    port = int(str(given.pop("console")["listen"]).rpartition(":")[2])
    async with served(SERVICE, given):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


NONE = Path("none.pem")


@pytest.mark.parametrize(
    ("more", "without", "problem"),
    [
        ({}, "control", "console: it shows releases, so it needs the setting control"),
        ({"certificate": NONE, "key": NONE}, "", "console.certificate: there is no file"),
    ],
)
async def test_what_cannot_work_is_said_before_it_serves(
    place: Place, more: dict[str, object], without: str, problem: str
) -> None:
    given = settings(place, free_port(), **more)
    given.pop(without, None)
    with pytest.raises(ConfigError, match=problem):
        async with served(SERVICE, given):
            pass


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
