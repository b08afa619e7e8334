"""The disk of the home is full, and has room again: what serves goes on, what died comes back by itself."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.cli.installation import layout, log_files
from headrace.oip import open_inference_pb2 as oip
from tests.disks import fill
from tests.faults.test_killed_services import RECOVERY_S, SERVICES
from tests.faults.traffic import serves
from tests.gauges import samples
from tests.system import HOME, System, headrace, poll, refused, row_request

pytestmark = pytest.mark.parametrize("system", ["small disk"], indirect=True)
PLACE = layout.of(HOME)
NO_ROOM = "no space left on device"


# A log that is due for rotation, which needs as much room again.
LONG = PLACE.log("long")


@pytest.fixture
def filler(system: System) -> Iterator[Path]:
    """What takes all the room there was: no byte is free."""
    LONG.write_bytes(b"line\n" * (log_files.MAX_BYTES // 5 + 1))
    filler = fill(HOME, "filler")
    yield filler
    filler.unlink(missing_ok=True)
    LONG.unlink()


def events_failing(system: System) -> float:
    [(_, value)] = samples(system, "headrace_monitoring_events_failing", ["monitoring"])
    return value


def states(system: System) -> list[dict[str, Any]]:
    return list(system.services().values())


def test_predictions_and_refusals_go_on(system: System, filler: Path) -> None:
    key = system.key
    for index in range(50):
        assert system.predict(row_request(system.rows[index])).predictions
        # Each of them is worth a log line, which finds no room.
        with pytest.raises(grpc.RpcError) as caught:
            system.predict(row_request({**system.rows[index], "hour": "noon"}))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            system.infer(oip.ModelInferRequest(model_name="no such pipeline"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    # What the alarm for lost events watches.
    poll("events can't be stored", lambda: events_failing(system) == 1)
    # A file of events that could not be finished gave its room back.
    fill(HOME, filler.name)
    tenants = headrace("tenants", "list", "--json")
    refused("keys", "create", "demo")
    assert headrace("tenants", "list", "--json") == tenants
    assert system.predict(row_request(system.rows[0]), key=key).predictions


def test_what_was_killed_comes_back_when_there_is_room_again(system: System, filler: Path) -> None:
    for pid in [system.running(service) for service in SERVICES]:
        os.kill(pid, signal.SIGKILL)
    poll("no service has a process", lambda: not any(s["pid"] for s in states(system)))
    poll("the reasons are told", lambda: all(NO_ROOM in (s["reason"] or "") for s in states(system)))
    assert "waiting" in headrace("status")
    assert NO_ROOM in headrace("status")
    said = refused("restart", "executor")
    assert NO_ROOM in said.lower()
    assert "executor" in said
    assert LONG.stat().st_size > log_files.MAX_BYTES
    filler.unlink()
    poll("all are ready", lambda: all(s["state"] == "ready" for s in states(system)), within_s=RECOVERY_S)
    poll("predictions come", lambda: serves(system))
    poll("the log is rotated", lambda: LONG.stat().st_size == 0)
    headrace("restart", "executor", timeout=RECOVERY_S)
    assert serves(system)
    assert headrace("keys", "create", "demo")
