"""Runs the document's preprocessing offline: the same program that the preprocessing service runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from headrace.columns import Column
from headrace.pipeline import Pipeline, StepsStage, load
from headrace.steps import compile_steps

DOCUMENT = Path(__file__).parent / "pipeline.yaml"
MODEL_INPUT = "input"


def _elements() -> tuple[str, ...]:
    stages = yaml.safe_load(DOCUMENT.read_text())["stages"]
    [steps] = [stage["steps"] for stage in stages if "preprocessing" in stage]
    [columns] = [step["assemble"]["columns"] for step in steps if "assemble" in step]
    return tuple(columns)


# The columns that are the elements of the models' input, in their order.
ELEMENTS = _elements()


def model_inputs(frame: pd.DataFrame, document: Path = DOCUMENT) -> NDArray[np.float32]:
    """The models' input, float32 (rows, 24). `frame`: columns named as in the document; NaN: no value."""
    pipeline = load(document)
    stage = next(s for s in pipeline.stages if isinstance(s, StepsStage) and s.kind == "preprocessing")
    program = compile_steps("preprocessing", stage.spec)
    result = program.run({n: _column(pipeline, n, frame[n]) for n in program.reads}, len(frame))
    if result.errors:
        row, error = next(iter(result.errors.items()))
        raise ValueError(
            f"{len(result.errors)} of {len(frame)} rows can't be transformed; row {row}: {error.message}"
        )
    return result.columns[MODEL_INPUT].array.astype(np.float32, copy=False)


def _column(pipeline: Pipeline, name: str, values: pd.Series[Any]) -> Column:
    """The column as a service gets it: request fields in the document's types, features as nullable float64."""
    if values.dtype == object:
        return Column.of_text(name, values.tolist())
    field = next((f for f in pipeline.inputs if f.name == name), None)
    if field is not None:
        return Column.of(name, np.asarray(values, field.type.dtype.numpy))
    valid = values.notna().to_numpy()
    return Column.of(name, values.fillna(0.0).to_numpy(np.float64), None if valid.all() else valid)
