"""Steps that change what kind of value a column holds, or its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from headrace.columns import Column, DType
from headrace.hop.errors import Reason
from headrace.steps.frame import Floats, Frame, by_row
from headrace.steps.options import Options
from headrace.steps.value_ranges import Known, Values

# The door takes no longer request, unless it is told to (`limits.max_request_bytes`).
_LONGEST_TEXT = 16 << 20


@dataclass(frozen=True, slots=True)
class Cast:
    """`cast: {column(s), type, into?, lossy?}`: another numeric type.

    A fraction made an integer is cut towards 0; a value that does not fit, as NaN, fails its row. `lossy: true` lets
    `headrace pipeline check` pass whole numbers that a float type does not have exactly.
    """

    targets: tuple[tuple[str, str], ...]
    dtype: DType
    lossy: bool = False

    @classmethod
    def read(cls, options: Options) -> Cast:
        targets, dtype = options.targets(), options.dtype("type")
        if dtype is DType.BYTES:
            raise options.error("type", "should be a numeric type or bool")
        return cls(targets, dtype, options.flag("lossy", False))

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(read for read, _ in self.targets)

    def flow(self, known: Known) -> None:
        made = {}
        for read, written in self.targets:
            values = known.get(read)
            if self.lossy:
                made[written] = Values(self.dtype)
                continue
            if self.dtype.is_float:
                known.into(read, self.dtype, "", "declare a `range` of the input, or write `lossy: true`")
            else:
                low, high = self.dtype.bounds
                values = Values(None, True, max(values.low, low), min(values.high, high))
            made[written] = replace(values, dtype=self.dtype, unsaid=False)
        for name, values in made.items():
            known.put(name, values)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {written: self.dtype for _, written in self.targets}

    def run(self, frame: Frame) -> None:
        whole = not self.dtype.is_float and self.dtype is not DType.BOOL
        for read, written in self.targets:
            valid = frame.numbers(read)[1]
            column = frame.columns[read]
            if whole:
                refuse_unfit(frame, column, self.dtype, exact=False)
            frame.put(written, column.array.astype(self.dtype.numpy), valid)


def refuse_unfit(frame: Frame, column: Column, dtype: DType, *, exact: bool) -> None:
    """Fails the rows with values that the integer type does not have; `exact`: fractions, too, which else are cut."""
    low, high = dtype.bounds
    values = column.array
    if column.dtype.is_float:
        # In floats, high itself may round up to high + 1; that is a power of two and exact.
        fits = (values >= low) & (values < float(high + 1))
        if exact:
            fits &= values == np.floor(values)
    else:
        least, most = column.dtype.bounds
        if low <= least and most <= high:
            return
        fits = (values >= low) & (values <= high)
    if not fits.all():
        rows = by_row(~fits) if column.valid is None else by_row(~fits) & column.valid
        message = f"{column.name!r} does not fit {dtype.name.lower()} ({low} to {high})"
        frame.refuse(rows, Reason.REASON_INPUT_RANGE, column.name, message)


@dataclass(frozen=True, slots=True)
class Bucketize:
    """`bucketize: {column, edges: […], into?}`: int64 number of edges at or below the value; edges ascend."""

    column: str
    into: str
    edges: Floats

    @classmethod
    def read(cls, options: Options) -> Bucketize:
        column = options.name("column")
        return cls(column, options.name("into", column), read_edges(options))

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: DType.INT64}

    def flow(self, known: Known) -> None:
        known.put(self.into, Values.within(DType.INT64, 0, len(self.edges)))

    def run(self, frame: Frame) -> None:
        values, valid = frame.numbers(self.column)
        frame.put(self.into, np.searchsorted(self.edges, values, side="right"), valid)


def read_edges(options: Options) -> Floats:
    """`edges`: ascending numbers."""
    edges = np.array(options.numbers("edges"))
    if (edges[1:] <= edges[:-1]).any():
        raise options.error("edges", "should ascend")
    return edges


@dataclass(frozen=True, slots=True)
class Length:
    """`length: {column, into, unit?: characters | bytes}`: int64 length of text."""

    column: str
    into: str
    characters: bool

    @classmethod
    def read(cls, options: Options) -> Length:
        unit = options.choice("unit", ["characters", "bytes"], "characters")
        return cls(options.name("column"), options.name("into"), unit == "characters")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {self.into: DType.INT64}

    def flow(self, known: Known) -> None:
        known.put(self.into, Values.within(DType.INT64, 0, _LONGEST_TEXT))

    def run(self, frame: Frame) -> None:
        items, valid = frame.texts(self.column)
        lengths = [len(i.decode(errors="replace")) if self.characters else len(i) for i in items]
        frame.put(self.into, np.array(lengths, np.int64), valid)


@dataclass(frozen=True, slots=True)
class Rename:
    """`rename: {columns: {old: new}}`; the old names stay."""

    names: Mapping[str, str]

    @classmethod
    def read(cls, options: Options) -> Rename:
        section = options.section("columns")
        return cls({old: section.name(old) for old in section.values})

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(self.names)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return dict.fromkeys(self.names.values())

    def flow(self, known: Known) -> None:
        found = {new: known.get(old) for old, new in self.names.items()}
        for new, values in found.items():
            known.put(new, values)

    def run(self, frame: Frame) -> None:
        found = {new: frame.columns[old] for old, new in self.names.items()}
        for new, column in found.items():
            frame.put_column(new, column)
