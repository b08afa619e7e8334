"""Shifted traffic through the door: the columns that changed are named while it goes on, and no other ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.client import Headrace
from headrace.drift import Choices, baseline_of
from tests.gauges import samples
from tests.services.executor.executor_models import scaling
from tests.system import System, add_document, headrace, poll, remove_document, remove_models, write_document

pytestmark = pytest.mark.slow
NUMBERS = [f"n{i}" for i in range(22)]
COLUMNS = [*NUMBERS, "sometimes", "carrier"]
PIPELINE = "drifting"
MODEL = "drifting"
# 24 columns, of which the model gets three.
DOCUMENT = f"""\
pipeline: {PIPELINE}
version: 1
deadline_ms: 5000
inputs:
  carrier: {{type: string, max_bytes: 8}}
  sometimes: {{type: float32, required: false}}
{"".join(f"  {name}: float32{chr(10)}" for name in NUMBERS)}
stages:
  - preprocessing: assemble
    steps: [assemble: {{columns: [n0, n1, n2], into: x}}]
    outputs: {{x: {{type: float32, shape: [3]}}}}
  - {{model: m, name: {MODEL}, inputs: {{x: x}}, outputs: {{y: {{column: y, type: float32, shape: [3]}}}}}}
outputs: [y]
"""
ROWS = 5000
PER_CALL = 250
CHANGES = {("n7", "distribution"), ("carrier", "unseen"), ("sometimes", "nulls")}


def draw(
    rows: int, rng: np.random.Generator, *, shift: float = 0.0, new: float = 0.0, nulls: float = 0.01
) -> dict[str, Any]:
    """`n7` is shifted by so many deviations, `carrier` has a new category with this share, `sometimes` nulls."""
    found: dict[str, Any] = {name: rng.normal(size=rows).astype(np.float32) for name in NUMBERS}
    found["n7"] += np.float32(shift)
    values = rng.normal(size=rows).astype(np.float32)
    found["sometimes"] = np.ma.MaskedArray(values, rng.random(rows) < nulls)
    names = np.array(["UA", "AA", "DL", "B6"])[rng.choice(4, size=rows, p=[0.5, 0.3, 0.15, 0.05])]
    found["carrier"] = np.where(rng.random(rows) < new, "ZZ", names).tolist()
    return found


@pytest.fixture
def drifting(system: System, tmp_path: Path) -> Iterator[System]:
    """The pipeline, with a model that has a baseline."""
    pipeline = [name for name in COLUMNS if name not in ("n0", "n1", "n2")]
    choices = Choices(tensors={"x": ("n0", "n1", "n2")}, pipeline=pipeline)
    baseline = tmp_path / "drifting-baseline.json"
    baseline.write_bytes(baseline_of(draw(20_000, np.random.default_rng(1)), choices).to_bytes())
    (tmp_path / "drifting.onnx").write_bytes(scaling(2.0))
    headrace("models", "add", MODEL, str(tmp_path / "drifting.onnx"), "--baseline", str(baseline))
    write_document(PIPELINE, DOCUMENT)
    add_document(PIPELINE, DOCUMENT)
    try:
        yield system
    finally:
        remove_document(PIPELINE)
        remove_models(MODEL, "1")


def send(system: System, columns: dict[str, Any]) -> None:
    """All rows, some hundred a call; each is answered."""
    nulls = np.ma.getmaskarray(columns["sometimes"])
    rows = [
        {
            name: values[i] if name == "carrier" else float(values[i])
            for name, values in columns.items()
            if name != "sometimes" or not nulls[i]
        }
        for i in range(len(nulls))
    ]
    with Headrace(system.endpoints["grpc"], key=system.key, timeout_s=30) as client:
        for start in range(0, len(rows), PER_CALL):
            answer = client.predict(PIPELINE, rows[start : start + PER_CALL])
            assert not [p for p in answer.predictions if p.error]


def named(system: System) -> set[tuple[str, str]]:
    """(column, check) of what is raised now."""
    return {
        (labels["column"], labels["check"])
        for labels, level in samples(system, "headrace_drift_level", ("monitoring", "ingress"))
        if labels["pipeline"] == PIPELINE and level
    }


def judged(system: System) -> float:
    """Rows of the newest look."""
    found = samples(system, "headrace_drift_judged_rows", ("monitoring", "ingress"))
    return max((rows for labels, rows in found if labels["pipeline"] == PIPELINE), default=0.0)


def test_each_change_is_named_and_nothing_else(drifting: System) -> None:
    rng = np.random.default_rng(2)
    poll("it serves", lambda: _answers(drifting), 120)
    send(drifting, draw(ROWS, rng))
    poll("rows are judged", lambda: judged(drifting) >= 2000, 60)
    assert named(drifting) == set()

    # Rows of the same ten seconds are judged together, so some right after usual ones would be seen diluted: traffic goes on.
    def changed() -> bool:
        send(drifting, draw(PER_CALL, rng, shift=0.5, new=0.01, nulls=0.05))
        return named(drifting) >= CHANGES

    poll("all changes are named", changed, 120)
    assert {column for column, _ in named(drifting)} == {"n7", "carrier", "sometimes"}

    def usual() -> bool:
        send(drifting, draw(PER_CALL, rng))
        return not named(drifting)

    poll("it is over", usual, 120)


def _answers(system: System) -> bool:
    try:
        send(system, draw(1, np.random.default_rng(3)))
    except Exception:  # noqa: BLE001 - a release takes a moment to be served
        return False
    return True
