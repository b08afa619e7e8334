"""Steps from a model's numbers to an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headrace.columns import Column, DType, Ragged
from headrace.hop.errors import Code, Fault, Reason
from headrace.steps.builtin.conversion import read_edges
from headrace.steps.frame import Floats, Frame
from headrace.steps.options import Options


@dataclass(frozen=True, slots=True)
class Pick:
    """`pick: {column, index, into?}`: one number of a vector, in its own type."""

    column: str
    index: int
    into: str

    @classmethod
    def read(cls, options: Options) -> Pick:
        column = options.name("column")
        return cls(column, options.integer("index", low=0), options.name("into", column))

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: None}

    def run(self, frame: Frame) -> None:
        values, valid = frame.vectors(self.column)
        if self.index >= values.shape[1]:
            raise _narrow(self.column, values.shape[1], self.index + 1)
        frame.put(self.into, frame.columns[self.column].array[:, self.index], valid)


@dataclass(frozen=True, slots=True)
class Threshold:
    """`threshold: {column, at, into}`: True at `at` and above."""

    column: str
    at: float
    into: str

    @classmethod
    def read(cls, options: Options) -> Threshold:
        return cls(options.name("column"), options.number("at"), options.name("into"))

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: DType.BOOL}

    def run(self, frame: Frame) -> None:
        values, valid = frame.numbers(self.column)
        frame.put(self.into, values >= self.at, valid)


@dataclass(frozen=True, slots=True)
class Labels:
    """`labels: {column, labels: […], edges?, into}`: text.

    Without `edges`: the label of the largest number of a vector (the first of equals). With them: the band in
    which a number lies, so one label more than edges.
    """

    column: str
    labels: tuple[bytes, ...]
    edges: Floats | None
    into: str

    @classmethod
    def read(cls, options: Options) -> Labels:
        labels = options.labels("labels")
        edges = read_edges(options) if "edges" in options else None
        if edges is not None and len(labels) != len(edges) + 1:
            raise options.error(
                "labels", f"{len(edges)} edges part {len(edges) + 1} bands; {len(labels)} labels"
            )
        return cls(options.name("column"), labels, edges, options.name("into"))

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: DType.BYTES}

    def run(self, frame: Frame) -> None:
        if self.edges is not None:
            values, valid = frame.numbers(self.column)
            found = np.searchsorted(self.edges, values, side="right")
        else:
            values, valid = frame.vectors(self.column)
            if values.shape[1] != len(self.labels):
                raise _narrow(self.column, values.shape[1], len(self.labels))
            found = values.argmax(axis=1)
        frame.put_texts(self.into, [self.labels[i] for i in found.tolist()], valid)


@dataclass(frozen=True, slots=True)
class TopK:
    """`top_k: {column, k, labels?, into, scores?}`: the k largest of a vector, largest first.

    `into` holds k labels per row, or int64 positions if there are no labels; `scores` names a column for the
    numbers (float64).
    """

    column: str
    k: int
    labels: tuple[bytes, ...]
    into: str
    scores: str

    @classmethod
    def read(cls, options: Options) -> TopK:
        labels = options.labels("labels") if "labels" in options else ()
        k = options.integer("k", low=1, high=len(labels) or 1 << 20)
        scores = options.name("scores") if "scores" in options else ""
        return cls(options.name("column"), k, labels, options.name("into"), scores)

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        made: dict[str, DType | None] = {self.into: DType.BYTES if self.labels else DType.INT64}
        return {**made, self.scores: DType.FLOAT64} if self.scores else made

    def run(self, frame: Frame) -> None:
        values, valid = frame.vectors(self.column)
        width = values.shape[1]
        if width < self.k or (self.labels and width != len(self.labels)):
            raise _narrow(self.column, width, len(self.labels) or self.k)
        order = np.argsort(-values, axis=1, kind="stable")[:, : self.k]
        if self.labels:
            items = Ragged.of([self.labels[i] for i in order.ravel().tolist()])
            frame.put_column(self.into, Column(self.into, DType.BYTES, items, (self.k,), valid))
        else:
            frame.put(self.into, order, valid)
        if self.scores:
            frame.put(self.scores, np.take_along_axis(values, order, axis=1), valid)


def _narrow(column: str, width: int, wanted: int) -> Fault:
    message = f"column {column!r} has {width} numbers per row; a step needs {wanted}"
    metadata = {"field": column, "width": str(width)}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_SHAPE, message, metadata=metadata)
