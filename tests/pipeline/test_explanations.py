"""Explanations of the demo's predictions: by the command line from its event, and of stored ones."""

import json
import math

import grpc
import pytest

from tests.system import DOCUMENTS, System, add_document, headrace, poll, remove_document, row_request


def test_a_prediction_is_explained_from_its_event(system: System) -> None:
    if system.shape == "together":
        pytest.skip("together, a service has no process of its own")
    answer = system.predict(row_request(system.rows[0]))
    events = poll(
        "the event is stored",
        lambda: json.loads(headrace("events", "list", "--request", answer.request_id, "--json")),
    )
    found = json.loads(headrace("explain", events[0]["prediction_id"], "--json"))
    assert found["output"] == "probability"
    # The model's signed baseline is what a usual case looks like.
    assert {column["base_source"] for column in found["columns"]} == {"baseline"}
    assert len(found["columns"]) == 24
    added = math.fsum(column["contribution"] for column in found["columns"])
    assert added == found["value"] - found["base"]
    assert math.isclose(found["value"], events[0]["outputs"]["probability"], rel_tol=1e-5)


def test_stored_predictions_are_explained_where_a_document_demands_it(system: System) -> None:
    if system.shape == "together":
        pytest.skip("together, a service has no process of its own")
    text = (
        (DOCUMENTS / "flights" / "pipeline.yaml")
        .read_text()
        .replace("pipeline: flights", "pipeline: audited")
    )
    add_document("audited", f"{text}\nexplanations: {{coverage: 1}}\n")

    def predicted() -> bool:
        try:
            return bool(system.predict(row_request(*system.rows[:3], pipeline="audited")))
        except grpc.RpcError:
            return False

    poll("the pipeline is served", predicted)

    def covered() -> bool:
        whole = [{"pipeline": "audited", "prediction_count": "3", "explained_count": "3"}]
        return bool(json.loads(headrace("explain", "coverage", "--json")) == whole)

    # A minute until they count, and three explanations below all other calls.
    poll("its predictions are explained", covered, 240)
    remove_document("audited")
