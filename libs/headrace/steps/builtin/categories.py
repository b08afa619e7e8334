"""Steps from values to the numbers of their categories.

A vocabulary is a dict: copying and looking up each row's bytes took 1.7 µs for 1 row and 38 µs for 256 rows;
`np.searchsorted` took 4.2 and 49 µs, `np.unique` 8.3 and 74 µs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from headrace.columns import DType
from headrace.hop.errors import Reason
from headrace.steps.frame import Floats, Frame, Key
from headrace.steps.options import Options
from headrace.steps.step import OneColumn
from headrace.steps.value_ranges import Known, Values

Index = Mapping[Key, int]


def read_vocabulary(options: Options) -> Index:
    """Option `vocabulary`: texts or integers, each once. Value → its position in the list, which is its code."""
    index: dict[Key, int] = {}
    for i, value in enumerate(options.several("vocabulary", "texts or integers")):
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise options.error(f"vocabulary[{i}]", "should be text or an integer")
        key = value.encode() if isinstance(value, str) else value
        if key in index:
            raise options.error(f"vocabulary[{i}]", f"{value!r} is there twice")
        index[key] = i
    return index


def codes(frame: Frame, column: str, index: Index, kind: str, *, refuse: bool) -> NDArray[np.int64]:
    """int64 (rows,): each row's position in the vocabulary, −1 where it has none or no value.

    Counts the values outside the vocabulary; `refuse` fails their rows, and those without a value.
    """
    keys, valid = frame.keys(column)
    places = [*map(index.get, keys, repeat(-1))]
    found = np.array(places, np.int64)
    if valid is None and -1 not in places:
        return found
    unseen = found < 0
    if valid is not None:
        found[~valid] = -1
        unseen &= valid
    if unseen.any():
        frame.unseen[kind, column] += int(unseen.sum())
        if refuse:
            message = f"{column!r} has a value outside its vocabulary of {len(index)}"
            frame.refuse(unseen, Reason.REASON_INPUT_RANGE, column, message)
    if refuse:
        frame.require(column, valid)
    return found


@dataclass(frozen=True, slots=True)
class OneHot(OneColumn):
    """`one_hot: {column, vocabulary, into?, unknown?: zeros | error}`: float32 (rows, vocabulary)."""

    index: Index
    refuse: bool
    made = DType.FLOAT32

    @classmethod
    def read(cls, options: Options) -> OneHot:
        refuse = options.choice("unknown", ["zeros", "error"], "zeros") == "error"
        return cls(*options.target(), read_vocabulary(options), refuse)

    def run(self, frame: Frame) -> None:
        found = codes(frame, self.column, self.index, "one_hot", refuse=self.refuse)
        # One column more than there are categories: code −1 writes into it, and it is cut off.
        matrix = np.zeros((frame.rows, len(self.index) + 1), np.float32)
        matrix[np.arange(frame.rows), found] = 1
        frame.put(self.into, matrix[:, :-1])


@dataclass(frozen=True, slots=True)
class Ordinal(OneColumn):
    """`ordinal: {column, vocabulary, into?, unknown?: error | INTEGER}`: int64 position in the vocabulary; −1 if unknown."""

    index: Index
    unknown: int | None
    made = DType.INT64

    @classmethod
    def read(cls, options: Options) -> Ordinal:
        unknown = None
        if options.raw("unknown", -1) != "error":
            unknown = options.integer("unknown", -1, low=-(1 << 31))
        return cls(*options.target(), read_vocabulary(options), unknown)

    def flow(self, known: Known) -> None:
        unknown = 0 if self.unknown is None else self.unknown
        known.put(self.into, Values(DType.INT64, True, min(unknown, 0), max(unknown, len(self.index))))

    def run(self, frame: Frame) -> None:
        found = codes(frame, self.column, self.index, "ordinal", refuse=self.unknown is None)
        if self.unknown not in (None, -1):
            found[found < 0] = self.unknown
        frame.put(self.into, found)


@dataclass(frozen=True, slots=True)
class Hash(OneColumn):
    """`hash: {column, buckets, into?, seed?}`: int64 bucket of a text by BLAKE2b, the same everywhere."""

    buckets: int
    salt: bytes
    made = DType.INT64

    @classmethod
    def read(cls, options: Options) -> Hash:
        seed = options.integer("seed", 0, low=0)
        buckets = options.integer("buckets", low=2)
        return cls(*options.target(), buckets, seed.to_bytes(8, "little"))

    def flow(self, known: Known) -> None:
        known.put(self.into, Values(DType.INT64, True, 0, self.buckets))

    def run(self, frame: Frame) -> None:
        items, valid = frame.texts(self.column)
        buckets = {i: self._bucket(i) for i in set(items)}
        frame.put(self.into, np.array([buckets[i] for i in items], np.int64), valid)

    def _bucket(self, item: bytes) -> int:
        digest = hashlib.blake2b(item, digest_size=8, salt=self.salt).digest()
        return int.from_bytes(digest, "little") % self.buckets


@dataclass(frozen=True, slots=True)
class Bucketize(OneColumn):
    """`bucketize: {column, edges: […], into?}`: int64 number of edges at or below the value; edges ascend."""

    edges: Floats
    made = DType.INT64

    @classmethod
    def read(cls, options: Options) -> Bucketize:
        return cls(*options.target(), read_edges(options))

    def flow(self, known: Known) -> None:
        known.put(self.into, Values(DType.INT64, True, 0, len(self.edges)))

    def run(self, frame: Frame) -> None:
        values, valid = frame.numbers(self.column)
        frame.put(self.into, np.searchsorted(self.edges, values, side="right"), valid)


def read_edges(options: Options) -> Floats:
    """Option `edges`: float64, ascending."""
    edges = np.array(options.numbers("edges"))
    if (edges[1:] <= edges[:-1]).any():
        raise options.error("edges", "should ascend")
    return edges
