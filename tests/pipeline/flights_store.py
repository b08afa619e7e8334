"""The running system's feature store, read and written by Feast itself; and what a prediction from it should be."""

import functools
import json
import subprocess
import sys
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types

from headrace.columns import Column
from headrace.pipeline import StepsStage, load
from headrace.repository import Repository
from headrace.steps import compile_steps
from tests.system import HOME, ROOT

DOCUMENT = load(ROOT / "deploy" / "pipelines" / "flights" / "pipeline.yaml")
FEAST = ROOT / "tests" / "clients" / "feast_store.py"
WEATHER = ("temp", "humid", "wind_speed", "precip", "pressure", "visib")


def feast(*arguments: str) -> str:
    command = [sys.executable, str(FEAST), str(HOME / "feast"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def stored(row: dict[str, Any]) -> dict[str, Any]:
    """The row's features as stock Feast reads them; asked once, since each question costs an import of Feast."""
    return dict(json.loads(_read(json.dumps(row))))


@functools.cache
def _read(row: str) -> str:
    return feast("read", row)


def recomputed(row: dict[str, Any], features: dict[str, Any], version: str) -> float:
    """Probability by the document's own steps and the model's artifact, with no service between."""
    [assemble] = [s for s in DOCUMENT.stages if isinstance(s, StepsStage) and s.kind == "preprocessing"]
    columns = {k: Column.of_text(k, [v]) for k, v in row.items() if isinstance(v, str)}
    columns |= {k: Column.of(k, np.array([v], np.int32)) for k, v in row.items() if isinstance(v, int)}
    for name, value in features.items():
        valid = None if value is not None else np.array([False])
        columns[name] = Column.of(name, np.array([value or 0.0], np.float64), valid)
    program = compile_steps("preprocessing", assemble.spec)
    inputs = program.run(columns, 1).columns["input"].array
    artifact = Repository(HOME / "models").read("flights_light", version)
    session = onnxruntime.InferenceSession(artifact.content, providers=["CPUExecutionProvider"])
    [probabilities] = session.run(None, {"input": inputs})
    return float(probabilities[0, 1])
