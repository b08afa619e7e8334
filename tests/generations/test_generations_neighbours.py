"""Services are deployed apart, so an old one must work with new neighbours and a new one with old neighbours.

One service is of the other generation at a time, so that it and each of its neighbours are of different ones. All seven in turn
are every pair of neighbours; among new ones and among old ones, every pair in both directions twice.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from headrace.api.monitoring.v1 import events_pb2 as events
from headrace.cli.commands.operations.event_calls import ask
from headrace.cli.installation import layout, services
from headrace.cli.supervision import deployed
from headrace.cli.supervision.deployed import Version
from headrace.client import Headrace, Outcome
from tests.gauges import samples
from tests.generations import older
from tests.pipeline.flights_store import recomputed, stored
from tests.system import HOME, System, headrace, poll, row_request

# Two systems, and thirty restarts in all.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EXPLAIN = "/headrace.api.inference.v1.InferenceService/Explain"
ROW = 3
Generation = Version | None


# Of a wider scope than `swapped`, so that pytest runs all services in one system before it starts the other.
@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return Version(older.unpacked(tmp_path_factory.mktemp("old")), older.OLD)


@pytest.fixture(scope="session", params=["old among new", "new among old"])
def mixed(request: pytest.FixtureRequest, old: Version) -> Iterator[tuple[System, Generation, Generation]]:
    """A system, the generation that most of it has, and the other one."""
    most, other = (None, old) if request.param == "old among new" else (old, None)
    place = layout.of(HOME)
    System.up("apart").down()  # prepares the home, by this generation
    for service in services.start_order():
        deployed.put(place, service, most)
    system = System.up("apart")
    try:
        yield system, most, other
    finally:
        system.down()
        for service in services.start_order():
            deployed.put(place, service, None)


@pytest.fixture(scope="module", params=services.start_order())
def swapped(request: pytest.FixtureRequest, mixed: tuple[System, Generation, Generation]) -> Iterator[System]:
    """The system with one service of the other generation."""
    system, most, other = mixed
    service = request.param
    _restart(service, other)
    try:
        wanted = {s: other if s == service else most for s in services.start_order()}
        assert _running(system) == {s: older.OLD if found else None for s, found in wanted.items()}
        yield system
    finally:
        _restart(service, most)


def _restart(service: str, generation: Generation) -> None:
    deployed.put(layout.of(HOME), service, generation)
    headrace("restart", service)


def _running(system: System) -> dict[str, str | None]:
    """The generation of each process as the supervisor says it; where its code is must agree."""
    told = {name: found["version"] for name, found in system.services().items()}
    for name, found in system.services().items():
        old = Path(f"/proc/{found['pid']}/cwd").readlink().name.startswith("old")
        assert old == (told[name] is not None)
    return told


def test_a_prediction_over_two_generations_is_the_offline_one(swapped: System) -> None:
    row = swapped.rows[ROW]
    answer = swapped.predict(row_request(row))
    # door → router → features, preprocessing, executor, postprocessing
    probability = cast("float", answer.predictions[0].outputs["probability"])
    expected = recomputed(row, stored(row), answer.models[0].version)
    assert probability == pytest.approx(expected, abs=1e-6)
    assert not answer.predictions[0].fallbacks


def test_what_the_router_tells_monitoring_arrives(swapped: System) -> None:
    row = swapped.rows[ROW]
    ticks = _counted(swapped, "headrace_monitoring_ticks_total")
    asked = swapped.predict(row_request(row)).request_id
    [event] = poll("its event is stored", lambda: _events(asked), within_s=60)
    assert (event["code"], event["inputs"]["carrier"]) == ("OK", row["carrier"])
    poll("ticks are taken", lambda: _counted(swapped, "headrace_monitoring_ticks_total") > ticks, within_s=60)


def test_outcomes_reach_monitoring_through_the_door(swapped: System) -> None:
    asked = swapped.predict(row_request(swapped.rows[ROW])).request_id
    with Headrace(swapped.endpoints["grpc"], key=swapped.key) as client:
        assert client.record_outcomes([Outcome(asked, "delayed", True)]).stored == 1


def test_a_row_is_explained_at_the_door(swapped: System) -> None:
    body = json.dumps({"pipeline": "flights", "rows": [swapped.rows[ROW]]}).encode()
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {swapped.key}",
        "connect-timeout-ms": "110000",
    }
    request = urllib.request.Request(swapped.endpoints["http"] + EXPLAIN, body, headers)
    [row] = poll("a row is explained", lambda: _explained(request), within_s=240)
    assert len(row["contributions"]) == 24


def _explained(request: urllib.request.Request) -> list[dict[str, Any]] | None:
    """None: the time was over. Between an old door and an old router a row has one second, too little on a loaded machine."""
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return list(json.load(reply)["rows"])
    except urllib.error.HTTPError as error:
        told = json.load(error)
        assert told["code"] == "deadline_exceeded", told
        return None


def _events(request_id: str) -> list[dict[str, Any]]:
    wanted = events.ListEventsRequest(request_id=request_id, limit=10)
    found = ask(layout.of(HOME), "ListEvents", wanted, events.ListEventsResponse).events
    return [json.loads(event.content_json) for event in found]


def _counted(system: System, name: str) -> float:
    return sum(value for _, value in samples(system, name, ["monitoring"]))
