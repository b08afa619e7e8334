"""Labelled rows on both models of a cascade: the stages that lead to it, and its models as stages that answer every row.

Features are inputs of this pipeline: the rows hold the values that they had.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.cli.installation import control_place
from headrace.cli.installation.layout import Layout
from headrace.cli.replay import cascade_curve as curves
from headrace.cli.replay.candidate import Candidate, ReplayError, candidate_of, models_of
from headrace.cli.replay.cascade_curve import Labelled
from headrace.cli.replay.recorded_features import RecordedFeatures
from headrace.columns import Batch, Column, DType, Rows
from headrace.columns.batch import concat
from headrace.pipeline import (
    CascadeStage,
    ColumnType,
    DocumentError,
    ModelStage,
    Pipeline,
    batch_from_rows,
    explainable_columns,
    parse,
    plan,
    towards,
    validate_inputs,
)
from headrace.pipeline.document.entries import Log, compose
from headrace.pipeline.stages.cascade import declared_types
from headrace.repository import Repository, RepositoryError
from headrace.repository.records import Records

# A model's CPU for a row depends on how many rows a run has; an executor that is not idle runs about so many.
BATCH = 64
_PAGE = 512
_CPU_S = 0.5


def measured(
    layout: Layout,
    text: str,
    pipeline: Pipeline,
    stage: CascadeStage,
    rows: Sequence[Mapping[str, object]],
    labels: NDArray[np.int64],
) -> tuple[Labelled, tuple[float, float]]:
    """What both models' decisions cost for each row that did not fail, and the CPU time (µs a row) of the light and the heavy
    model.

    `text`: of the pipeline's document; `rows`: its inputs by name, and the values of its features (absent or null: no value).
    Raises ReplayError, config.ConfigError, OSError.
    """
    repository = control_place.models(layout)
    try:
        both = json.dumps(_both(text, pipeline, stage))
        versions = _versions(layout, parse(both, pipeline.name), repository)
        made = candidate_of(both, pipeline.name, versions)
        _check_features(made.pipeline, pipeline, rows)
        batch = asyncio.run(_answers(layout, made, rows))
        keep = np.flatnonzero(batch.ok())
        if not len(keep):
            reason = next(iter(batch.errors.values())).message
            raise ReplayError(f"every row fails before the stage; the first: {reason}")
        columns = batch.take(keep).columns
        light, heavy = (
            _cpu_us(repository, part, versions[part.model], columns) for part in (stage.light, stage.heavy)
        )
    except DocumentError as error:
        raise ReplayError("; ".join(map(str, error.problems))) from None
    except RepositoryError as error:
        raise ReplayError(str(error)) from None
    return _labelled(stage, columns, labels[keep]), (light, heavy)


def _versions(layout: Layout, pipeline: Pipeline, repository: Repository) -> dict[str, str]:
    """Model → the version that the document names, else the newest that serves, else the newest."""
    found, serving = {}, Records(layout.executor_state).serving()
    for name, version in models_of(pipeline).items():
        there = repository.versions(name)
        if not there:
            raise ReplayError(f"there is no model {name!r} in the repository")
        live = [v for v in serving.get(name, ()) if v in there]
        found[name] = repository.resolve(name, version) if version else (live or there)[-1]
    return found


def _both(text: str, pipeline: Pipeline, stage: CascadeStage) -> dict[str, Any]:
    """The document of a pipeline that gives what the stage reads, and the scores of both its models in columns of their own."""
    document: Any = compose(text, Log(pipeline.name)).plain()
    leading = towards(plan(pipeline), stage.unsure.score)
    inputs, types = dict(document["inputs"]), explainable_columns(pipeline)
    for name in leading.reads:
        inputs.setdefault(name, _optional(types[name]))
    stages = [document["stages"][i] for i in leading.positions]
    before = [entry for entry in stages if entry.get(stage.kind) != stage.name]
    alone = [_alone(stage, part, column) for part, column in _parts(stage)]
    read = [*stage.valuable, *stage.light.inputs.values(), *stage.heavy.inputs.values()]
    return {
        **{key: document[key] for key in ("pipeline", "version", "deadline_ms")},
        "inputs": inputs,
        "stages": [*before, *alone],
        "outputs": [*dict.fromkeys(read), *(column for _, column in _parts(stage))],
    }


def _optional(kind: ColumnType) -> dict[str, Any]:
    """A feature as an input: any value of its type, or none."""
    name = str(replace(kind, text=kind.dtype is DType.BYTES))
    return {"type": name, "required": False, **({"allow_nan": True} if kind.dtype.is_float else {})}


def _parts(stage: CascadeStage) -> list[tuple[ModelStage, str]]:
    """The light and the heavy model, and the column of its score."""
    return [(stage.light, f"{stage.name}.light"), (stage.heavy, f"{stage.name}.heavy")]


def _alone(stage: CascadeStage, part: ModelStage, column: str) -> dict[str, Any]:
    """A model of the cascade as a stage of its own."""
    score = stage.unsure.score
    kind = {**declared_types(stage.heavy), **declared_types(stage.light)}.get(score)
    given = {"type": kind.dtype.name.lower(), "shape": list(kind.row_shape)} if kind else {}
    output = next(name for name, o in part.outputs.items() if o.column == score)
    return {
        "model": column,
        "name": part.model,
        **({"version": part.version} if part.version else {}),
        "inputs": dict(part.inputs),
        "outputs": {output: {"column": column, **given} if given else column},
    }


def _check_features(made: Pipeline, pipeline: Pipeline, rows: Sequence[Mapping[str, object]]) -> None:
    """Raises ReplayError: no row has the feature."""
    for name in [f.name for f in made.inputs if f not in pipeline.inputs]:
        if not any(name in row for row in rows):
            raise ReplayError(
                f"the rows do not have the feature {name!r}; each row needs the values that its features had"
            )


async def _answers(layout: Layout, made: Candidate, rows: Sequence[Mapping[str, object]]) -> Batch:
    """What the services hosted in this process answer. Rows that fail have an error."""
    # Not with the command's other imports: the services take seconds.
    from headrace.cli.replay.hosting import PATIENCE_S, hosted

    names, outputs = ([f.name for f in fields] for fields in (made.pipeline.inputs, made.pipeline.outputs))
    replies = []
    async with hosted(layout, made, RecordedFeatures()) as infer:
        for first in range(0, len(rows), _PAGE):
            page = [{n: row[n] for n in names if n in row} for row in rows[first : first + _PAGE]]
            context = Rows.one_request(len(page), str(first), "tune", time.monotonic() + PATIENCE_S)
            batch = validate_inputs(made.pipeline, batch_from_rows(made.pipeline, page, context))
            replies.append((await infer(batch)).batch.select(outputs))
    return concat(replies)


def _labelled(stage: CascadeStage, columns: Mapping[str, Column], labels: NDArray[np.int64]) -> Labelled:
    unsure, always = stage.unsure, np.zeros(len(labels), bool)
    for name, least in stage.valuable.items():
        always |= (columns[name].array >= least) & columns[name].is_valid()
    light, heavy = (columns[column].array for _, column in _parts(stage))
    light_costs, heavy_costs = (
        curves.costs(curves.decisions(scores, unsure.decision, unsure.element), labels, unsure.decision)
        for scores in (light, heavy)
    )
    # A margin that is no number is never alone: no threshold lies below it.
    margins = np.nan_to_num(unsure.margins(light), nan=-1.0)
    return Labelled(margins, light_costs, heavy_costs, always, curves.cost_of(unsure.decision))


def _cpu_us(repository: Repository, stage: ModelStage, version: str, columns: Mapping[str, Column]) -> float:
    """CPU microseconds that the model takes for a row, in batches of BATCH."""
    import onnxruntime  # type: ignore[import-untyped]  # ships no types

    options = onnxruntime.SessionOptions()
    # CPU time is compared, so that nothing may depend on how many cores there are.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    content = repository.read(stage.model, version).content
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - ONNX Runtime raises whatever it likes
        raise ReplayError(
            f"model {stage.model!r} does not run in ONNX Runtime here, so its CPU is not known"
        ) from None
    tensors = {name: columns[column].array for name, column in stage.inputs.items()}
    count = len(next(iter(tensors.values())))
    size = min(BATCH, count)
    parts = [{n: t[i : i + size] for n, t in tensors.items()} for i in range(0, count - size + 1, size)][:64]
    session.run(None, parts[0])
    began, done = time.thread_time(), 0
    while time.thread_time() - began < _CPU_S:
        for part in parts:
            session.run(None, part)
        done += len(parts) * size
    return (time.thread_time() - began) / done * 1e6
