"""A bad model at the executor's start is in quarantine and stops nobody else; mended, it serves by itself."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.cli.installation import control_place, layout
from headrace.columns import DType
from headrace.hop.errors import Code
from headrace.repository import TensorSpec, changes, publish
from headrace.state import atomic
from tests.services.executor.executor_models import doubling
from tests.system import (
    HOME,
    System,
    add_document,
    headrace,
    poll,
    remove_document,
    row_request,
    tried,
)

PLACE = layout.of(HOME)
X, Y = TensorSpec("x", DType.FLOAT32, (3,)), TensorSpec("y", DType.FLOAT32, (3,))
# A new process imports its libraries and checks files that it has not seen, on cores that others use, too.
WITHIN_S = 120
DOCUMENT = """\
pipeline: broken
version: 1
deadline_ms: 30000
inputs: {x: {type: float32, shape: [3]}}
stages:
  - {model: m, name: broken, inputs: {x: x}, outputs: {y: {column: y, type: float32, shape: [3]}}}
outputs: [y]
"""


def behind_the_back(name: str, version: str, content: bytes) -> None:
    """Signed and published, but not by `headrace models add`, which would refuse it."""
    about = publish(PLACE.models, name, version, content, inputs=[X], outputs=[Y], key=PLACE.model_key)
    with control_place.records(PLACE) as records:
        changes.add(records, about, "tests")


@pytest.fixture
def bad(system: System) -> Iterator[None]:
    """A model that no engine can load, and a bad second version of one that serves, recorded as if an operator had loaded it."""
    record = PLACE.executor_state / "serving.json"
    before = record.read_bytes() if record.exists() else b"{}"
    behind_the_back("broken", "1", b"no model")
    behind_the_back("flights_light", "2", b"no model")
    add_document("broken", DOCUMENT)
    serving = {**json.loads(before), "flights_light": ["1", "2"]}
    atomic.write(record, json.dumps(serving).encode())
    try:
        yield
    finally:
        remove_document("broken")
        for name, version in (("broken", "1"), ("broken", "2"), ("flights_light", "2")):
            tried("models", "remove", name, version)
        atomic.write(record, before)


def broken(system: System) -> tuple[str, str]:
    """Code and message of a prediction of the pipeline whose model is bad; "OK" and the output where it is well."""
    try:
        answer: Any = system.predict(row_request({"x": [1, 2, 3]}, pipeline="broken"))
    except grpc.RpcError as error:
        failed: Any = error
        return failed.code().name, failed.details()
    [prediction] = answer.predictions
    if prediction.HasField("error"):
        return Code(prediction.error.code).name, prediction.error.message
    return "OK", str(list(prediction.outputs["y"]))


def flights_model(system: System) -> str:
    """Version of the model that answered."""
    try:
        return str(system.predict(row_request(system.rows[0])).models[0].version)
    except grpc.RpcError:
        return ""


def quarantined(system: System) -> dict[str, str]:
    return {f"{m['model']}:{m['version']}": m["problem"] for m in system.status()["models_in_quarantine"]}


def metric(system: System) -> list[str]:
    address = system.status()["services"]["executor"]["metrics"]
    with urllib.request.urlopen(address) as answer:
        lines = answer.read().decode().splitlines()
    return sorted(line for line in lines if line.startswith("headrace_executor_quarantined{"))


def test_a_bad_model_is_in_quarantine_and_the_others_serve(system: System, bad: None, tmp_path: Path) -> None:
    pid = system.running("executor")
    system.kill("executor", WITHIN_S)
    poll("flights go on with the last good version", lambda: flights_model(system) == "1", WITHIN_S)

    code, text = poll("its own pipeline alone is refused", lambda: _refused(system), WITHIN_S)
    assert code == "FAILED_PRECONDITION"
    assert "model 'broken' version '1' is in quarantine" in text
    assert str(HOME) not in text
    poll(
        "both are in quarantine",
        lambda: set(quarantined(system)) == {"broken:1", "flights_light:2"},
        WITHIN_S,
    )
    found = quarantined(system)
    assert all("ONNX Runtime can't load it" in problem for problem in found.values())
    assert metric(system) == [
        'headrace_executor_quarantined{model="broken",version="1"} 1.0',
        'headrace_executor_quarantined{model="flights_light",version="2"} 1.0',
    ]
    told = tried("status")
    assert "model broken version 1 is in quarantine" in told.stdout, told.stdout + told.stderr
    # Calls to the bad one are no reason to shut the good ones out.
    for _ in range(50):
        assert broken(system)[0] == "FAILED_PRECONDITION"
    assert flights_model(system) == "1"

    # Mended: a good version is released in the place of one that never served, the bad one of the other taken away.
    good = tmp_path / "good.onnx"
    good.write_bytes(doubling())
    headrace("models", "add", "broken", str(good))
    add_document("broken", DOCUMENT)
    tried("models", "remove", "flights_light", "2")
    poll("it heals by itself", lambda: broken(system) == ("OK", "[2.0, 4.0, 6.0]"), WITHIN_S)
    poll("nothing is in quarantine", lambda: not quarantined(system), WITHIN_S)
    assert metric(system) == []
    assert flights_model(system) == "1"
    assert system.pid("executor") not in (pid, None)


def _refused(system: System) -> tuple[str, str] | None:
    found = broken(system)
    return found if found[0] == "FAILED_PRECONDITION" else None
