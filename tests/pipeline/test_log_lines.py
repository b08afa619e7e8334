"""Log lines lead from a failed request to its trace, and in the services behind to the request."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from headrace.cli.installation import layout
from tests.system import HOME, System, add_document, poll, remove_document, row_request

# A number where the step needs text: the service behind refuses the call.
DOCUMENT = """
pipeline: unfit
version: 1
deadline_ms: 30000
inputs: {x: float64}
stages:
  - preprocessing: joined
    steps: [join_text: {columns: [x], into: y}]
    outputs: {y: string}
outputs: [y]
"""


@pytest.fixture
def _document(system: System) -> Iterator[None]:
    add_document("unfit", DOCUMENT)
    poll("the pipeline is known", lambda: code(system, "log-lines-first") is grpc.StatusCode.INVALID_ARGUMENT)
    yield
    remove_document("unfit")


def code(system: System, request_id: str, trace: str = "0" * 31 + "1") -> Any:
    """How the call ends."""
    request = row_request({"x": 1.0}, pipeline="unfit", request_id=request_id)
    try:
        system.predict(request, traceparent=f"00-{trace}-{secrets.token_hex(8)}-01")
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.usefixtures("_document")
def test_a_failed_request_can_be_followed(system: System) -> None:
    trace, request_id = secrets.token_hex(16), f"log-lines-{secrets.token_hex(4)}"
    assert code(system, request_id, trace) is grpc.StatusCode.INVALID_ARGUMENT
    leaf = "preprocessing" if system.shape == "apart" else "ingress"
    [line] = poll("the door's line", lambda: lines("ingress", "request", request_id=request_id))
    assert line["trace_id"] == trace
    found = poll(
        "the line of the service behind",
        lambda: [
            one
            for one in lines(
                leaf, "call failed", method="/headrace.api.preprocessing.v1.PreprocessingService/Transform"
            )
            if one.get("request_ids") == [request_id]
        ],
    )
    assert found[0]["code"] == "INVALID_ARGUMENT"


def lines(service: str, event: str, **wanted: str) -> list[dict[str, Any]]:
    """Lines of a process's log."""
    found = []
    for text in layout.of(HOME).log(service).read_text().splitlines():
        if f'"event": "{event}"' in text:
            line = json.loads(text)
            if wanted.items() <= line.items():
                found.append(line)
    return found
