"""The console as the monitoring service runs it: on a real socket, from its settings, with the counts of a router."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.events import messages
from headrace.hop.config import ConfigError
from headrace.hop.testing import served
from headrace.pipeline import parse
from headrace.ticks import Tick
from services.monitoring.wiring import SERVICE
from tests.ports import free_port
from tests.released import keep_document, released
from tests.services.monitoring.console.console_place import Browser, Place, Reply
from tests.services.monitoring.console.console_requests import DOCUMENT, REQUEST, answered
from tests.services.monitoring.monitoring_calls import call, report


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
        "console": own,
    }


async def get(place: Place, port: int, path: str, *, signed_in: bool = True) -> Reply:
    while True:
        browser = Browser(port)
        try:
            return await browser.get(path, **({"x_api_key": place.keys["operator"]} if signed_in else {}))
        except ConnectionError:
            await asyncio.sleep(0.05)  # it binds its address a moment after the service is ready
        finally:
            browser.close()


async def test_the_service_serves_it_from_its_settings_alone(place: Place) -> None:
    port = free_port()
    async with served(SERVICE, settings(place, port)) as harness:
        place.answer(500, 1)
        await report(harness, Tick(1, 1, 0, dict(place.arms)))
        reply = await get(place, port, "/index.json")
        assert reply.status == 200
        found = reply.json
        assert found["routers"] == 1
        sentence = found["pipelines"][0]["assessment"]["sentence"]
        assert "1of500rowsfailed" in sentence.replace(" ", "")
        # What another process commits is seen at the next look.
        place.deploy(version="2")
        again = (await get(place, port, "/index.json")).json
        assert [c["release"]["number"] for c in again["pipelines"]] == [2]
        assert "server" not in {name.lower() for name in reply.headers}
        signed_out = await get(place, port, "/", signed_in=False)
        assert (signed_out.status, signed_out.location) == (303, "/sign-in")
        assert (await get(place, port, "/audit.json")).json["trails"] == []


async def test_the_service_s_own_events_outcomes_and_audit_are_on_its_pages(place: Place) -> None:
    port = free_port()
    given = settings(place, port)
    given["database"] = str(place.folder / "facts.sqlite")
    given["events"] = {"files": str(place.folder / "events")}
    revision = parse(DOCUMENT, "flights").revision
    keep_document(place.store, "flights", revision, DOCUMENT)
    async with served(SERVICE, given) as harness:
        events = messages.write("router-1", 7, 10, [answered(revision, time.time())])
        await report(harness, events=events)
        label = monitoring_pb2.Outcome(request_id=REQUEST, name="late", label=True)
        told = monitoring_pb2.RecordOutcomesRequest(tenant="acme", outcomes=[label])
        await call(harness, "RecordOutcomes", told)
        found = (await get(place, port, f"/requests.json?id={REQUEST}")).json["found"]
        panels = (await get(place, port, "/pipelines/flights.json")).json["panels"]
        log = (await get(place, port, "/audit/log.json")).json
    assert [p["row"] for p in found["predictions"]] == [0, 1]
    assert [(o["name"], o["value"]) for o in found["predictions"][0]["outcomes"]] == [("late", True)]
    assert "headrace trace" in found["no_trace"]
    assert "Freshness of features" in [panel["title"] for panel in panels]
    assert all(line["holds"] for line in log["lines"])
    assert log["lines"][0]["action"] == "document.store"


async def test_an_address_in_use_stops_nothing_and_is_taken_when_it_is_free(place: Place) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with served(SERVICE, settings(place, port)) as harness:
            # The service itself serves.
            assert not (await report(harness, tick_of(place))).tick.behind
            other.close()
            assert (await get(place, port, "/index.json")).status == 200


def tick_of(place: Place) -> Tick:
    place.answer(1)
    return Tick(1, 1, 0, dict(place.arms))


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
