"""Events of a running system: each protocol's reply names its prediction, and what is stored can be run again."""

import json
import uuid
from typing import Any

import pytest

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.cli.commands.operations.event_calls import ask
from headrace.cli.installation import layout
from headrace.hop.request_ids import request_key
from tests.pipeline.refusals import oip_request, rest_inputs
from tests.posting import post_whole
from tests.system import HOME, System, headrace, poll, row_request

PREDICT = "/headrace.api.inference.v1.InferenceService/Predict"


@pytest.fixture(autouse=True)
def apart(system: System) -> None:
    if system.shape != "apart":
        pytest.skip("together, a service has no process of its own")


def posted(system: System, path: str, body: object, **headers: str) -> tuple[Any, str]:
    """The reply and its `x-request-id`."""
    fields = {"content-type": "application/json", **headers}
    _, got, reply = post_whole(system, path, fields, json.dumps(body).encode(), 30)
    return json.loads(reply), got["x-request-id"]


def stored(prediction_id: str = "", request_id: str = "") -> int:
    """How many events there are; asked in this process, as a command takes a second to start."""
    wanted = pb.ListEventsRequest(prediction_id=prediction_id, request_id=request_id, limit=100)
    return len(ask(layout.of(HOME), "ListEvents", wanted, pb.ListEventsResponse).events)


def test_a_reply_of_each_protocol_names_the_prediction_of_its_event(system: System) -> None:
    row, own = system.rows[0], f"own.{uuid.uuid4().hex}"
    ids = [f"{system.predict(row_request(row, row)).request_id}/{i}" for i in (0, 1)]
    ids.append(f"{system.infer(oip_request(row)).id}/0")
    over_rest, header = posted(system, "/v2/models/flights/infer", rest_inputs(row))
    assert over_rest["id"] == header
    ids.append(f"{header}/0")
    over_json, header = posted(
        system, PREDICT, {"pipeline": "flights", "rows": [row]}, **{"x-request-id": own}
    )
    assert over_json["requestId"] == header == own
    ids.append(f"{own}/0")
    assert len(set(ids)) == 5

    poll("each has an event", lambda: all(stored(prediction_id=i) for i in ids))
    event = json.loads(headrace("events", "show", ids[0]))
    assert (event["prediction_id"], event["code"], event["inputs"]["carrier"]) == (
        ids[0],
        "OK",
        row["carrier"],
    )


def test_any_id_of_a_caller_finds_its_event_and_its_trace(system: System) -> None:
    own = f"order #12/é {uuid.uuid4().hex}"
    traced = {"traceparent": f"00-{uuid.uuid4().hex}-b7ad6b7169203331-01"}
    body = {"pipeline": "flights", "rows": system.rows[:1], "requestId": own}
    reply, header = posted(system, PREDICT, body, **traced)
    assert (reply["requestId"], header) == (own, request_key(own))
    poll("there is an event", lambda: stored(prediction_id=f"{own}/0") == stored(request_id=own) == 1)
    for identity in (f"{own}/0", own, header):
        assert json.loads(headrace("events", "show", identity))["prediction_id"] == f"{header}/0"
    assert header in headrace("trace", own)


@pytest.mark.slow  # hosts all services a second time
def test_stored_events_come_out_equal_when_they_are_run_again(system: System) -> None:
    asked = system.predict(row_request(*system.rows[:50])).request_id

    poll("the events are stored", lambda: stored(request_id=asked) == 50)
    report = json.loads(headrace("events", "replay", "--id", asked, "--json"))
    assert {n: report[n] for n in ("events", "equal", "differing", "not_replayable")} == {
        "events": 50,
        "equal": 50,
        "differing": 0,
        "not_replayable": 0,
    }
