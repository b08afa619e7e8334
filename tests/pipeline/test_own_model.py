"""The README's "Bring your own model" on a running system: what serves changes when an operator says so, and stays."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.installation import layout
from tests.services.executor.executor_models import scaling
from tests.system import HOME, System, headrace, poll, refused, remove_document, remove_models, write_document

WITHIN_S = 120
DOCUMENT = """\
pipeline: mine
version: 1
deadline_ms: 30000
inputs: {age: float32, income: float32, visits: {type: float32, default: 0}}
stages:
  - preprocessing: assemble
    steps: [assemble: {columns: [age, income, visits], into: x}]
    outputs: {x: {type: float32, shape: [3]}}
  - {model: m, name: mine, inputs: {x: x}, outputs: {y: {column: y, type: float32, shape: [3]}}}
outputs: [y]
"""


@pytest.fixture
def mine(system: System, tmp_path: Path) -> Iterator[Path]:
    """A folder with files of two versions."""
    for version, factor in (("1", 2.0), ("2", 3.0)):
        (tmp_path / f"mine{version}.onnx").write_bytes(scaling(factor))
    try:
        yield tmp_path
    finally:
        remove_document("mine")
        remove_models("mine", "1", "2")


def predicted() -> tuple[str, list[float]] | None:
    """Version and outputs; None for a system that is on its way there."""
    try:
        printed = headrace("predict", "mine", "--input", "age=1", "--input", "income=2", "--json")
    except AssertionError:
        return None
    answer: dict[str, Any] = json.loads(printed)
    return answer["models"][0]["version"], answer["predictions"][0]["outputs"]["y"]


def test_a_model_of_ones_own_serves_when_a_release_says_so(system: System, mine: Path) -> None:
    headrace("models", "add", "mine", str(mine / "mine1.onnx"))
    write_document("mine", DOCUMENT)
    headrace("release", "deploy", "mine", "--yes")
    assert poll("it answers", predicted, WITHIN_S) == ("1", [2.0, 4.0, 0.0])

    # A model that is added changes nothing, nor does a restart.
    headrace("models", "add", "mine", str(mine / "mine2.onnx"))
    assert "mine:2 is loaded; pipeline mine runs version 1" in headrace("models", "load", "mine:2")
    [first, second] = [
        line.split() for line in headrace("models", "list").splitlines() if line.startswith("mine ")
    ]
    assert (first[1:3], second[1:3]) == (["1", "mine"], ["2", "loaded"])
    service = "executor" if system.shape == "apart" else "ingress"
    headrace("restart", service, timeout=WITHIN_S)
    assert poll("it answers", predicted, WITHIN_S) == ("1", [2.0, 4.0, 0.0])

    headrace("release", "deploy", "mine", "--models", "mine=2", "--yes")
    poll("the new version answers", lambda: predicted() == ("2", [3.0, 6.0, 0.0]), WITHIN_S)
    layout.of(HOME).operator_key.unlink(missing_ok=True)  # made anew when it is needed
    assert "named by the release of mine" in refused("models", "unload", "mine:2")
    assert layout.of(HOME).operator_key.stat().st_mode & 0o777 == 0o600
    system.kill(service, WITHIN_S)
    assert poll("it answers", predicted, WITHIN_S) == ("2", [3.0, 6.0, 0.0])

    headrace("release", "rollback", "mine", "--yes")
    poll("the old version answers", lambda: predicted() == ("1", [2.0, 4.0, 0.0]), WITHIN_S)
