"""The disk of the home is full: what serves goes on."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from headrace.oip import open_inference_pb2 as oip
from tests.disks import fill
from tests.gauges import samples
from tests.system import HOME, System, headrace, poll, refused, row_request

pytestmark = pytest.mark.parametrize("system", ["small disk"], indirect=True)


@pytest.fixture
def filler(system: System) -> Iterator[Path]:
    """What takes all the room there was: no byte is free."""
    filler = fill(HOME, "filler")
    yield filler
    filler.unlink(missing_ok=True)


def events_failing(system: System) -> float:
    [(_, value)] = samples(system, "headrace_monitoring_events_failing", ["monitoring"])
    return value


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
