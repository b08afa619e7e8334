"""Runs the stages of a pipeline over recorded rows without its services: steps by their program, models by ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.cli.tuning import cascade_curve as curves
from headrace.cli.tuning.cascade_curve import Labelled
from headrace.columns import Batch, Column, DType, RowError, Rows
from headrace.hop.errors import Fault
from headrace.pipeline import (
    CascadeStage,
    ColumnType,
    FeaturesStage,
    InputField,
    ModelStage,
    Pipeline,
    Stage,
    StepsStage,
    batch_from_rows,
    plan,
    validate_inputs,
)
from headrace.repository import Repository, RepositoryError
from headrace.steps import compile_steps


class OfflineError(Exception):
    """The rows can't be run; the text says why."""


class Session(Protocol):
    """A model: tensors by name in, tensors by name out."""

    def __call__(self, tensors: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]: ...


@dataclass(slots=True)
class Models:
    """The models of a repository, read when they are first needed. `serving`: the versions of each that serve, newest last."""

    repository: Repository
    serving: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _sessions: dict[tuple[str, str], Session] = field(default_factory=dict)

    def session(self, name: str, version: str) -> Session:
        """The model. Raises OfflineError if it can't be read or is no ONNX model."""
        if (name, version) not in self._sessions:
            self._sessions[name, version] = self._read(name, version)
        return self._sessions[name, version]

    def version(self, name: str, version: str) -> str:
        """The version that is meant: a label resolved; if none is named, the one that serves, else the newest."""
        try:
            if version:
                return self.repository.resolve(name, version)
            versions = self.repository.versions(name)
        except RepositoryError as error:
            raise OfflineError(str(error)) from None
        live = [v for v in self.serving.get(name, ()) if v in versions]
        if not versions:
            raise OfflineError(f"there is no model {name!r} in the repository")
        return (live or versions)[-1]

    def _read(self, name: str, version: str) -> Session:
        import onnxruntime  # type: ignore[import-untyped]  # ships no types

        try:
            artifact = self.repository.read(name, self.version(name, version))
        except RepositoryError as error:
            raise OfflineError(str(error)) from None
        options = onnxruntime.SessionOptions()
        # CPU time is compared, so that nothing may depend on how many cores there are.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            made = onnxruntime.InferenceSession(artifact.content, options, providers=["CPUExecutionProvider"])
        except Exception:  # noqa: BLE001 - ONNX Runtime raises whatever it likes
            raise OfflineError(
                f"model {name!r} does not run in ONNX Runtime on this machine, so it can't be tuned offline"
            ) from None
        names = [output.name for output in made.get_outputs()]
        return lambda tensors: dict(zip(names, made.run(None, dict(tensors)), strict=True))


def columns_for(
    pipeline: Pipeline, target: Stage, rows: Sequence[Mapping[str, object]], models: Models
) -> Batch:
    """The rows with every column that `target` reads. Rows that fail keep their error.

    `rows`: the pipeline's inputs by name, and the values of its features (absent or null: no value).
    Raises OfflineError if a stage before `target` can't be run here.
    """
    context = Rows.one_request(len(rows), "offline", "offline", float("inf"))
    names = {f.name for f in pipeline.inputs}
    inputs = [{k: v for k, v in row.items() if k in names} for row in rows]
    try:
        batch = validate_inputs(pipeline, batch_from_rows(pipeline, inputs, context))
    except Fault as fault:
        raise OfflineError(fault.message) from None
    columns, errors = dict(batch.columns), dict(batch.errors)
    for stage in _before(pipeline, target):
        columns |= _run(stage, columns, errors, rows, models)
    return Batch(context, columns, errors)


def _before(pipeline: Pipeline, target: Stage) -> list[Stage]:
    """The stages that `target` waits for, in an order in which they can run."""
    planned = plan(pipeline).stages
    position = next(i for i, p in enumerate(planned) if p.stage.name == target.name)
    found: list[int] = []

    def visit(i: int) -> None:
        for j in planned[i].after:
            visit(j)
        if i not in found:
            found.append(i)

    visit(position)
    return [planned[i].stage for i in found if i != position]


def _run(
    stage: Stage,
    columns: Mapping[str, Column],
    errors: dict[int, RowError],
    rows: Sequence[Mapping[str, object]],
    models: Models,
) -> dict[str, Column]:
    if isinstance(stage, FeaturesStage):
        return _recorded(stage, errors, rows)
    if isinstance(stage, StepsStage):
        program = compile_steps(stage.kind, stage.spec)
        result = program.run({name: columns[name] for name in program.reads}, len(rows))
        for row, error in result.errors.items():
            errors.setdefault(row, error)
        return {name: result.columns[name] for name in stage.outputs}
    if isinstance(stage, ModelStage):
        return model_columns(stage, columns, models)
    raise OfflineError(f"stage {stage.name!r} is a {stage.kind} stage, which can't be run offline")


def _recorded(
    stage: FeaturesStage, errors: dict[int, RowError], rows: Sequence[Mapping[str, object]]
) -> dict[str, Column]:
    """The features as the rows hold them."""
    found = {}
    for view in stage.views.values():
        for name, dtype in view.features.items():
            if not any(name in row for row in rows):
                raise OfflineError(
                    f"the rows do not have the feature {name!r}; stage {stage.name!r} reads features, so each row needs the "
                    "values that they had"
                )
            found[name] = _feature(name, ColumnType(dtype, (), dtype is DType.BYTES), errors, rows)
    return found


def _feature(
    name: str, kind: ColumnType, errors: dict[int, RowError], rows: Sequence[Mapping[str, object]]
) -> Column:
    """One feature, read as an input of its type is."""
    declared = InputField(name, kind.dtype, kind.row_shape, kind.text, required=False, allow_nan=True)
    single = Pipeline("offline", 1, "", "", 1, (declared,), (), ())
    context = Rows.one_request(len(rows), "offline", "offline", float("inf"))
    given = [{name: row.get(name)} for row in rows]
    batch = batch_from_rows(single, given, context)
    for row, error in batch.errors.items():
        errors.setdefault(row, error)
    return batch.columns[name]


def model_columns(stage: ModelStage, columns: Mapping[str, Column], models: Models) -> dict[str, Column]:
    """What a model writes for these columns."""
    tensors = {name: columns[column].array for name, column in stage.inputs.items()}
    given = models.session(stage.model, stage.version)(tensors)
    missing = stage.outputs.keys() - given.keys()
    if missing:
        raise OfflineError(f"model {stage.model!r} has no output {sorted(missing)[0]!r}")
    return {output.column: Column.of(output.column, given[name]) for name, output in stage.outputs.items()}


def labelled_rows(stage: CascadeStage, batch: Batch, labels: NDArray[np.int64], models: Models) -> Labelled:
    """What both models' decisions cost for each row that did not fail. Raises OfflineError if none is left."""
    keep = np.flatnonzero(batch.ok())
    if not len(keep):
        reason = next(iter(batch.errors.values())).message
        raise OfflineError(f"every row fails before the stage; the first: {reason}")
    columns = {name: column.take(keep) for name, column in batch.columns.items()}
    unsure, kept = stage.unsure, labels[keep]
    light = model_columns(stage.light, columns, models)[unsure.score].array
    heavy = model_columns(stage.heavy, columns, models)[unsure.score].array
    always = np.zeros(len(keep), bool)
    for name, least in stage.valuable.items():
        always |= (columns[name].array >= least) & columns[name].is_valid()
    decided = [curves.decisions(scores, unsure.decision, unsure.element) for scores in (light, heavy)]
    light_cost, heavy_cost = (curves.costs(d, kept, unsure.decision) for d in decided)
    # A margin that is no number is never alone: no threshold lies below it.
    margins = np.nan_to_num(unsure.margins(light), nan=-1.0)
    return Labelled(margins, light_cost, heavy_cost, always, curves.cost_of(unsure.decision))


def cpu_us(
    stage: ModelStage,
    columns: Mapping[str, Column],
    models: Models,
    rows: int,
    seconds: float = 0.5,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """CPU microseconds that the model takes for a row, in batches of `rows`; measured for `seconds` of CPU."""
    session = models.session(stage.model, stage.version)
    tensors = {name: columns[column].array for name, column in stage.inputs.items()}
    count = len(next(iter(tensors.values())))
    size = min(rows, count)
    parts = [{n: t[i : i + size] for n, t in tensors.items()} for i in range(0, count - size + 1, size)][:64]
    for part in parts[:4]:
        session(part)
    began, done = clock(), 0
    while clock() - began < seconds:
        for part in parts:
            session(part)
        done += len(parts) * size
    return (clock() - began) / done * 1e6
