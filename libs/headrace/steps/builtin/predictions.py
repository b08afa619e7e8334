"""Steps from the outputs of models to a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headrace.columns import Column, DType, Ragged
from headrace.hop.errors import Code, Fault, Reason
from headrace.steps.builtin.categories import read_edges
from headrace.steps.errors import SpecError
from headrace.steps.frame import Floats, Frame
from headrace.steps.options import Options, as_number
from headrace.steps.step import Columns, OneColumn


@dataclass(frozen=True, slots=True)
class Pick(OneColumn):
    """`pick: {column, index, into?}`: one number of a vector, in its own type."""

    index: int

    @classmethod
    def read(cls, options: Options) -> Pick:
        return cls(*options.target(), options.integer("index", low=0))

    def run(self, frame: Frame) -> None:
        values, valid = frame.vectors(self.column)
        if self.index >= values.shape[1]:
            raise _too_narrow(self.column, values.shape[1], self.index + 1)
        frame.put(self.into, frame.columns[self.column].array[:, self.index], valid)


@dataclass(frozen=True, slots=True)
class Threshold(OneColumn):
    """`threshold: {column, at, into}`: True at `at` and above."""

    at: float
    made = DType.BOOL

    @classmethod
    def read(cls, options: Options) -> Threshold:
        return cls(*options.new_target(), options.number("at"))

    def run(self, frame: Frame) -> None:
        values, valid = frame.numbers(self.column)
        frame.put(self.into, values >= self.at, valid)


@dataclass(frozen=True, slots=True)
class Labels(OneColumn):
    """`labels: {column, labels: […], edges?, into}`: text.

    Without `edges`: the label of the largest number of a vector (the first of equals). With `edges`: the label of the band
    in which a number lies, so there is one label more than edges.
    """

    labels: tuple[bytes, ...]
    edges: Floats | None
    made = DType.BYTES

    @classmethod
    def read(cls, options: Options) -> Labels:
        labels = options.labels("labels")
        edges = read_edges(options) if "edges" in options else None
        if edges is not None and len(labels) != len(edges) + 1:
            raise options.error(
                "labels",
                f"{len(edges)} edges make {len(edges) + 1} bands, but there are {len(labels)} labels",
            )
        return cls(*options.new_target(), labels, edges)

    def run(self, frame: Frame) -> None:
        if self.edges is not None:
            values, valid = frame.numbers(self.column)
            found = np.searchsorted(self.edges, values, side="right")
        else:
            values, valid = frame.vectors(self.column)
            if values.shape[1] != len(self.labels):
                raise _too_narrow(self.column, values.shape[1], len(self.labels))
            found = values.argmax(axis=1)
        frame.put_texts(self.into, [self.labels[i] for i in found.tolist()], valid)


@dataclass(frozen=True, slots=True)
class TopK(OneColumn):
    """`top_k: {column, k, labels?, into, scores?}`: the k largest of a vector, largest first.

    `into` holds k labels per row, or int64 positions if there are no labels; `scores` names a column for the
    numbers (float64).
    """

    k: int
    labels: tuple[bytes, ...]
    scores: str

    @classmethod
    def read(cls, options: Options) -> TopK:
        labels = options.labels("labels") if "labels" in options else ()
        k = options.integer("k", low=1, high=len(labels) or 1 << 20)
        scores = options.name("scores") if "scores" in options else ""
        return cls(*options.new_target(), k, labels, scores)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        made: dict[str, DType | None] = {self.into: DType.BYTES if self.labels else DType.INT64}
        return {**made, self.scores: DType.FLOAT64} if self.scores else made

    def run(self, frame: Frame) -> None:
        values, valid = frame.vectors(self.column)
        width = values.shape[1]
        if width < self.k or (self.labels and width != len(self.labels)):
            raise _too_narrow(self.column, width, len(self.labels) or self.k)
        order = np.argsort(-values, axis=1, kind="stable")[:, : self.k]
        if self.labels:
            items = Ragged.of([self.labels[i] for i in order.ravel().tolist()])
            frame.put_column(self.into, Column(self.into, DType.BYTES, items, (self.k,), valid))
        else:
            frame.put(self.into, order, valid)
        if self.scores:
            frame.put(self.scores, np.take_along_axis(values, order, axis=1), valid)


@dataclass(frozen=True, slots=True)
class Vote(Columns):
    """`vote: {columns: {name: weight}, into}`: weighted mean of the scores of several models, in float64.

    The scores have one shape. A model without a score for a row does not vote; no score at all: no value.
    """

    weights: Mapping[str, float]
    into: str

    @classmethod
    def read(cls, options: Options) -> Vote:
        section = options.section("columns")
        weights = {n: as_number(section.raw(n), f"{section.path}.{n}") for n in section.values}
        if min(weights.values()) < 0 or sum(weights.values()) == 0:
            raise SpecError(section.path, "weights should be 0 or more, and not all 0")
        into = options.name("into")
        return cls(tuple(weights), {into: DType.FLOAT64}, weights, into)

    def run(self, frame: Frame) -> None:
        total = np.zeros(frame.rows)
        score: Floats | None = None
        for name, weight in self.weights.items():
            values, valid = frame.numbers(name)
            share = np.full(frame.rows, weight) if valid is None else np.where(valid, weight, 0.0)
            total += share
            part = values * share.reshape(-1, *[1] * (values.ndim - 1))
            score = part if score is None else score + part
        assert score is not None  # a vote has at least one column
        voted = total > 0
        divisor = np.where(voted, total, 1.0).reshape(-1, *[1] * (score.ndim - 1))
        frame.put(self.into, score / divisor, None if voted.all() else voted)


def _too_narrow(column: str, width: int, wanted: int) -> Fault:
    message = f"column {column!r} has {width} numbers per row; a step needs {wanted}"
    metadata = {"field": column, "width": str(width)}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_SHAPE, message, metadata=metadata)
