"""How soon a change of what is asked is named: rows and seconds from its first row to the alarm of its column.

The traffic is steady: as the training data, then with one change until it is named, as before until that is over, and so on.
"""

from __future__ import annotations

import argparse
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from headrace.cli.installation import layout
from headrace.client import Headrace
from headrace.drift import Choices, baseline_of
from headrace.releases import FileReleases
from headrace.repository import Repository
from load.systems.headrace import Running, Setup, command, configuration, headrace, status

_NAME = "load_drift"
_TENSOR = ("n0", "n1", "n2")
_NUMBERS = tuple(f"n{i}" for i in range(22))
_TRAINED_ROWS = 20_000
_PER_CALL = 50
# Rows that are judged at a look.
_JUDGED_ROWS = 2000
# Longer than it may take: a minute, or 5,000 rows.
_PATIENCE_S = 180.0
# How a change is made: (column, arguments of `_draw`).
_CHANGES: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "0.5 deviations in one column": ("n7", {"shift": 0.5}),
    "a new category, 1 % of the rows": ("carrier", {"new": 0.01}),
    "nulls 1 % -> 5 %": ("sometimes", {"nulls": 0.05}),
}
_DOCUMENT: Mapping[str, Any] = {
    "pipeline": _NAME,
    "version": 1,
    "description": "24 columns, of which the model gets three",
    "deadline_ms": 5000,
    "inputs": {
        **dict.fromkeys(_NUMBERS, "float32"),
        "sometimes": {"type": "float32", "required": False},
        "carrier": {"type": "string", "max_bytes": 8},
    },
    "stages": [
        {
            "preprocessing": "assemble",
            "steps": [{"assemble": {"columns": [*_TENSOR], "into": "x"}}],
            "outputs": {"x": {"type": "float32", "shape": [3]}},
        },
        {
            "model": "mean",
            "name": _NAME,
            "inputs": {"x": "x"},
            "outputs": {"mean": {"column": "mean", "type": "float32", "shape": [1]}},
        },
    ],
    "outputs": ["mean"],
}


def run(options: argparse.Namespace) -> None:
    """`drift`: prints, for each change, when its column was named."""
    setup = Setup(options.home, options.shape, documents=[_DOCUMENT])
    print(configuration(setup))
    with _model(options.home), headrace(setup) as running:
        [key] = running.keys.values()
        with Headrace(running.target, key=key, timeout_s=30) as client:
            traffic = _Traffic(client, running, options.rate)
            traffic.until("rows are judged", lambda: traffic.judged() >= _JUDGED_ROWS)
            _tell_wrong("no change", traffic.named())
            for text, (column, change) in _CHANGES.items():
                rows, began = traffic.rows, time.monotonic()
                traffic.until(f"{column} is named", lambda c=column: c in traffic.named(), **change)
                taken = time.monotonic() - began
                print(f"{text}: {column} named after {traffic.rows - rows:,} rows, {taken:.0f} s")
                _tell_wrong(text, traffic.named() - {column})
                traffic.until("it is over", lambda: not traffic.named())


class _Traffic:
    """Rows at a steady rate, and what is said of them."""

    def __init__(self, client: Headrace, running: Running, rate: float) -> None:
        self._client = client
        self._every_s = _PER_CALL / rate
        self._random = np.random.default_rng(2)
        found = status(running.setup.home)["services"]
        self._metrics = next(found[name]["metrics"] for name in ("monitoring", "ingress") if name in found)
        self.rows = 0

    def until(self, what: str, reached: Any, **change: float) -> None:
        """Sends rows until it is. Raises SystemExit: it takes too long."""
        ends = due = time.monotonic()
        ends += _PATIENCE_S
        looked = due
        while True:
            self._client.predict(_NAME, _rows(_draw(_PER_CALL, self._random, **change)))
            self.rows += _PER_CALL
            due += self._every_s
            now = time.monotonic()
            if now - looked >= 1:
                looked = now
                if reached():
                    return
                if now > ends:
                    raise SystemExit(f"not within {_PATIENCE_S:.0f} s: {what}")
            time.sleep(max(due - now, 0))

    def named(self) -> set[str]:
        """Columns of which an alarm is raised."""
        return {labels["column"] for labels, level in self._samples("headrace_drift_level") if level}

    def judged(self) -> float:
        return max((rows for _, rows in self._samples("headrace_drift_judged_rows")), default=0.0)

    def _samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        with urllib.request.urlopen(self._metrics, timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        every = [s for family in families for s in family.samples if s.name == name]
        return [(s.labels, s.value) for s in every if s.labels["pipeline"] == _NAME]


def _tell_wrong(when: str, wrong: set[str]) -> None:
    if wrong:
        print(f"{when}: WRONGLY named: {', '.join(sorted(wrong))}")


def _draw(
    rows: int, random: np.random.Generator, *, shift: float = 0.0, new: float = 0.0, nulls: float = 0.01
) -> dict[str, Any]:
    """`n7` is shifted by so many deviations, `carrier` has a new category with this share, `sometimes` nulls."""
    found: dict[str, Any] = {name: random.normal(size=rows) for name in _NUMBERS}
    found["n7"] += shift
    found["sometimes"] = np.ma.MaskedArray(random.normal(size=rows), random.random(rows) < nulls)
    names = np.array(["UA", "AA", "DL", "B6"])[random.choice(4, size=rows, p=[0.5, 0.3, 0.15, 0.05])]
    found["carrier"] = np.where(random.random(rows) < new, "ZZ", names).tolist()
    return found


def _rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As the door takes them; a null is left out."""
    nulls = np.ma.getmaskarray(columns["sometimes"])
    rows = [{name: float(columns[name][i]) for name in _NUMBERS} for i in range(len(nulls))]
    for i, row in enumerate(rows):
        row["carrier"] = columns["carrier"][i]
        if not nulls[i]:
            row["sometimes"] = float(columns["sometimes"][i])
    return rows


@contextmanager
def _model(home: Path) -> Iterator[None]:
    """It is in the home's repository meanwhile, with its baseline."""
    artifact, baseline = home / f"{_NAME}.onnx", home / f"{_NAME}.json"
    others = [name for name in (*_NUMBERS, "sometimes", "carrier") if name not in _TENSOR]
    choices = Choices(tensors={"x": _TENSOR}, pipeline=others)
    try:
        artifact.write_bytes(_onnx())
        baseline.write_bytes(baseline_of(_draw(_TRAINED_ROWS, np.random.default_rng(1)), choices).to_bytes())
        command(home, "models", "add", _NAME, str(artifact), "--baseline", str(baseline), "--yes")
        yield
    finally:
        artifact.unlink(missing_ok=True)
        baseline.unlink(missing_ok=True)
        FileReleases(layout.of(home).releases).remove(_NAME)
        for version in Repository(home / "models").versions(_NAME):
            command(home, "models", "remove", _NAME, version, "--yes")


def _onnx() -> bytes:
    """`x` float32 (N, 3) → `mean` float32 (N, 1)."""
    from onnx import TensorProto, helper

    node = helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", len(_TENSOR)])
    made = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["N", 1])
    graph = helper.make_graph([node], _NAME, [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="headrace")
    model.ir_version = 8
    return bytes(model.SerializeToString())
