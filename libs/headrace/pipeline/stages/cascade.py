"""`cascade` stages: a light model answers, and a heavy one takes the rows of which it is unsure, or that are valuable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from headrace.columns import DType
from headrace.columns.column import Mask
from headrace.pipeline.document.entries import Entry
from headrace.pipeline.stages.kind import (
    Finding,
    Setting,
    SettingError,
    Signatures,
    StageKind,
    Written,
    refuse_unknown_settings,
)
from headrace.pipeline.stages.model import (
    ModelStage,
    check_model,
    model_output_types,
    read_columns,
    read_model,
    read_output,
)
from headrace.pipeline.types import ColumnType

THRESHOLD = "threshold"
_MAX_BUDGET_MS = 600_000


@dataclass(frozen=True, slots=True)
class Unsure:
    """When the light model is unsure of a row: its margin is below `threshold`.

    The margin is read from `score`, a column of floats that the light model writes. With a `decision`: how far element
    `element` of the score is from it. Without: how far the greatest element is above the second greatest.
    """

    score: str
    threshold: float
    decision: float | None = None
    element: int = 0

    def margins(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """float64 (rows,): the margin of each row. `scores`: (rows, …), as the light model gives them."""
        flat = scores.reshape(len(scores), math.prod(scores.shape[1:])).astype(np.float64)
        if self.decision is not None:
            return np.abs(flat[:, self.element] - self.decision)
        top = np.partition(flat, flat.shape[1] - 2, axis=1)
        return np.asarray(top[:, -1] - top[:, -2])

    def rows(self, scores: NDArray[np.floating]) -> Mask:
        """bool (rows,): the rows of which the light model is unsure; a score that is no number is unsure too."""
        return ~(self.margins(scores) >= self.threshold)


@dataclass(frozen=True, slots=True)
class CascadeStage:
    """Runs `light` on every row, and `heavy` on those that are unsure or valuable.

    `valuable`: column → least value; a row is valuable if any of these columns has at least that value. `budget_ms`: the most
    time that the heavy model may take of a row's; None: half of what is left. `least_ms`: a row with less time left is not sent
    to it. Both models write the same columns.
    """

    kind: ClassVar[str] = "cascade"

    name: str
    light: ModelStage
    heavy: ModelStage
    unsure: Unsure
    valuable: Mapping[str, float]
    budget_ms: float | None = None
    least_ms: float = 0.0


class CascadeKind(StageKind[CascadeStage]):
    """Stages that run a light model, and a heavy one where it pays."""

    name = CascadeStage.kind

    def read(self, entry: Entry) -> CascadeStage | None:
        required = ["cascade", "light", "heavy", "score", THRESHOLD]
        fields = entry.fields(required, ["decision", "element", "valuable"])
        if not set(required) <= fields.keys():
            return None
        stage = fields["cascade"].name()
        light = _read_part(stage, fields["light"].fields(["name", "inputs", "outputs"], ["version"]))
        parts = fields["heavy"].fields(["name", "inputs", "outputs"], ["version", "budget_ms", "least_ms"])
        heavy = _read_part(stage, parts)
        if light is None or heavy is None:
            return None
        _check_columns(light, heavy, fields)
        valuable = fields["valuable"].entries() if "valuable" in fields else {}
        for column, e in valuable.items():
            e.check_name(column)
        found = CascadeStage(
            stage,
            light,
            heavy,
            _read_unsure(fields),
            MappingProxyType({column: e.number() for column, e in valuable.items()}),
            parts["budget_ms"].number(1, _MAX_BUDGET_MS) if "budget_ms" in parts else None,
            parts["least_ms"].number(0, _MAX_BUDGET_MS) if "least_ms" in parts else 0.0,
        )
        for key, message in _check_score(found, declared_types(light)):
            fields[key].fail(message)
        return found

    def reads(self, stage: CascadeStage) -> Mapping[str, str]:
        found = {column: f"light.{key}" for column, key in read_columns(stage.light).items()}
        for column, key in read_columns(stage.heavy).items():
            found.setdefault(column, f"heavy.{key}")
        for column in stage.valuable:
            found.setdefault(column, f"valuable.{column}")
        return found

    def writes(self, stage: CascadeStage) -> list[Written]:
        heavy = declared_types(stage.heavy)
        return [
            Written(o.column, o.type or heavy.get(o.column), f"light.outputs.{name}")
            for name, o in stage.light.outputs.items()
        ]

    def models(self, stage: CascadeStage) -> Mapping[str, str]:
        return {part.model: part.version for part in (stage.light, stage.heavy)}

    def answered_by(self, stage: CascadeStage) -> str | None:
        # A release may set the threshold, so the document does not tell.
        parts = (stage.light, stage.heavy)
        if not all(part.version for part in parts):
            return None
        named = ">".join(f"{part.model}:{part.version}" for part in parts)
        return f"{named} {stage.unsure.threshold!r}"

    def pinned(
        self, stage: CascadeStage, models: Mapping[str, str], settings: Mapping[str, Setting]
    ) -> CascadeStage:
        refuse_unknown_settings(stage, settings, (THRESHOLD,))
        light, heavy = (
            replace(part, version=models.get(part.model, part.version)) for part in (stage.light, stage.heavy)
        )
        unsure = stage.unsure
        if THRESHOLD in settings:
            unsure = replace(unsure, threshold=_threshold(stage, settings[THRESHOLD]))
        return replace(stage, light=light, heavy=heavy, unsure=unsure)

    def output_types(self, stage: CascadeStage, signatures: Signatures) -> Mapping[str, ColumnType | None]:
        light = model_output_types(stage.light, signatures)
        heavy = model_output_types(stage.heavy, signatures)
        return {column: kind or heavy.get(column) for column, kind in light.items()}

    def check(
        self, stage: CascadeStage, signatures: Signatures, types: Mapping[str, ColumnType | None]
    ) -> Iterable[Finding]:
        for name, part in (("light", stage.light), ("heavy", stage.heavy)):
            for key, message in check_model(part, signatures, types):
                yield Finding(f"{name}.{key}", message)
        if stage.unsure.score not in declared_types(stage.light):
            yield from _check_score(stage, types)
        given = model_output_types(stage.heavy, signatures)
        for column, kind in model_output_types(stage.light, signatures).items():
            other = given.get(column)
            if kind is not None and other is not None and not kind.fits(other):
                yield Finding("heavy.outputs", f"column {column!r} is {other}, the light model's is {kind}")
        for column in stage.valuable:
            kind = types.get(column)
            if kind is not None and (kind.dtype is DType.BYTES or kind.row_shape):
                yield Finding(f"valuable.{column}", f"column {column!r} is {kind}, not a number per row")


def declared_types(part: ModelStage) -> dict[str, ColumnType]:
    """The columns of a model whose types the document declares."""
    return {o.column: o.type for o in part.outputs.values() if o.type is not None}


def _read_part(stage: str, fields: Mapping[str, Entry]) -> ModelStage | None:
    if not {"name", "inputs", "outputs"} <= fields.keys():
        return None
    return read_model(stage, fields, {n: read_output(e) for n, e in fields["outputs"].entries().items()})


def _read_unsure(fields: Mapping[str, Entry]) -> Unsure:
    if "element" in fields and "decision" not in fields:
        fields["element"].fail("belongs to a `decision`: without one, the two greatest elements are compared")
    return Unsure(
        fields["score"].name(),
        fields[THRESHOLD].number(0),
        fields["decision"].number() if "decision" in fields else None,
        fields["element"].integer(0, 1 << 16) if "element" in fields else 0,
    )


def _check_columns(light: ModelStage, heavy: ModelStage, fields: Mapping[str, Entry]) -> None:
    """Logs it if the models are one, or do not write the same columns."""
    if light.model == heavy.model:
        fields["heavy"].fail(
            f"is {heavy.model!r}, as the light model; a release gives each model one version, so they need two names"
        )
    mine, other = ([o.column for o in part.outputs.values()] for part in (light, heavy))
    if sorted(mine) != sorted(other):
        fields["heavy"].fail(f"writes the columns {_listed(other)}, the light model {_listed(mine)}")
    if fields["score"].plain() not in mine:
        fields["score"].fail(f"should be a column that the light model writes: {_listed(mine)}")
    types = declared_types(light)
    for column, kind in declared_types(heavy).items():
        if column in types and types[column] != kind:
            fields["heavy"].fail(f"declares {column!r} as {kind}, the light model as {types[column]}")


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(sorted(columns)) or "(none)"


def _check_score(stage: CascadeStage, types: Mapping[str, ColumnType | None]) -> Iterable[Finding]:
    unsure = stage.unsure
    kind = types.get(unsure.score)
    if kind is None:
        return
    elements = math.prod(kind.row_shape)
    if not kind.dtype.is_float:
        yield Finding("score", f"column {unsure.score!r} is {kind}; a margin needs floats")
    elif unsure.decision is None and elements < 2:
        message = (
            f"column {unsure.score!r} has one element per row: say from which `decision` its margin counts"
        )
        yield Finding("score", message)
    elif unsure.element >= elements:
        yield Finding("element", f"column {unsure.score!r} is {kind}; its elements are counted from 0")


def _threshold(stage: CascadeStage, value: Setting) -> float:
    if isinstance(value, bool | str) or not 0 <= value < math.inf:
        raise SettingError(stage.name, THRESHOLD, f"should be a number of at least 0, is {value!r}")
    return float(value)


CASCADE = CascadeKind()
