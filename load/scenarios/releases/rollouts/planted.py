"""The pipeline whose rollouts are measured, its good version and the planted bad ones."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from headrace.cli.installation import layout
from load.systems.headrace import command

PIPELINE = "table"
WAITING = "table_waiting"
LIVE_VERSION = "1"
# Values of x that version 1 answers; the next one it does not, nor does any other version: clients that always fail ask for it.
ENTRIES = 20
ALWAYS_FAILS = ENTRIES
_WAITS_US = 200_000


@dataclass(frozen=True, slots=True)
class Planted:
    """A version that takes over. `target_s`: from its first bad row to its last row, the median of the runs; None: it is fine.

    `models`: what its arm runs in place of version 1; `waiting`: its document names the model that waits.
    """

    name: str
    version: str
    target_s: float | None
    labels: Sequence[int]
    guards: Sequence[str] = ()
    waiting: bool = False
    outcomes: bool = False


GOOD = tuple(i % 2 for i in range(ENTRIES))
PLANTED: Mapping[str, Planted] = {
    each.name: each
    for each in (
        Planted("half-fail", "3", 4.0, GOOD[: ENTRIES // 2]),
        Planted("one-in-20-fails", "4", 12.0, GOOD[: ENTRIES - 1]),
        Planted("waits-200-ms", "1", 6.0, GOOD, waiting=True),
        Planted(
            "flipped-labels",
            "5",
            10.0,
            tuple(1 - y for y in GOOD),
            guards=("errors", "slow", "wrong"),
            outcomes=True,
        ),
        Planted("identical", "2", None, GOOD),
    )
}


def document(model: str = PIPELINE) -> dict[str, Any]:
    """The pipeline: the label of entry x. `client`: who asks, which an assignment may stick to."""
    return {
        "pipeline": PIPELINE,
        "version": 2 if model == WAITING else 1,
        "deadline_ms": 2000,
        "inputs": {"x": {"type": "int64", "range": [0, ENTRIES]}, "client": {"type": "int64"}},
        "stages": [
            {
                "model": "m",
                "name": model,
                "inputs": {"x": "x"},
                "outputs": {"y": {"column": "label", "type": "int64"}},
            }
        ],
        "outputs": ["label"],
    }


# Settings of the executor: the waiting model lets each row wait for a batch that never fills.
EXECUTOR: Mapping[str, Any] = {
    "overrides": {WAITING: {"max_delay_us": _WAITS_US, "preferred_rows": [256], "max_rows": 256}}
}


def add_all(home: Path) -> None:
    """Puts the versions that the home's repository lacks into it, signed."""
    wanted = {("1", PIPELINE): GOOD, ("1", WAITING): GOOD}
    wanted |= {(p.version, PIPELINE): tuple(p.labels) for p in PLANTED.values() if not p.waiting}
    for (version, name), labels in wanted.items():
        add_version(home, name, version, labels)


def add_version(home: Path, name: str, version: str, labels: Sequence[int]) -> None:
    """Puts a version that answers label x of `labels` into the home's repository, signed, if it is not there."""
    if (layout.of(home).models / name / version).exists():
        return
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(_lookup(labels))
        file.flush()
        command(home, "models", "add", name, file.name, "--version", version, "--yes")


def _lookup(labels: Sequence[int]) -> bytes:
    """y = labels[x]; an x outside of them makes the engine raise an error."""
    x = helper.make_tensor_value_info("x", TensorProto.INT64, ["rows"])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, ["rows"])
    table = helper.make_tensor("table", TensorProto.INT64, [len(labels)], list(labels))
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])], "lookup", [x], [y], [table]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
