"""Steps for missing values, and for constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headrace.columns import Column, DType, Ragged
from headrace.steps.frame import Frame, by_row
from headrace.steps.options import Options, as_number
from headrace.steps.step import Columns, OneColumn
from headrace.steps.value_ranges import Known, Values

Constant = float | int | bytes
_CONSTANTS = {bytes: DType.BYTES, bool: DType.BOOL, int: DType.INT64, float: DType.FLOAT64}
# An enum's member takes several times as long to read from its class.
_FLOAT64 = DType.FLOAT64


@dataclass(frozen=True, slots=True)
class Impute(Columns):
    """`impute: {columns: {name: constant}}`: the constant where there is no value, or NaN.

    A whole constant keeps the type of an integer column; any other makes it float64.
    """

    constants: Mapping[str, Constant]
    numbers: Mapping[str, float]

    @classmethod
    def read(cls, options: Options) -> Impute:
        section = options.section("columns")
        constants = {name: _constant(section, name) for name in section.values}
        numbers = {n: c for n, c in constants.items() if not isinstance(c, bytes)}
        writes = {n: None if n in numbers else DType.BYTES for n in constants}
        return cls(tuple(constants), writes, constants, numbers)

    def flow(self, known: Known) -> None:
        for name, constant in self.constants.items():
            given = known.get(name)
            if isinstance(constant, bytes):
                known.put(name, Values(DType.BYTES))
            elif given.dtype is None or given.dtype.is_float:
                known.put(name, replace(given, low=min(given.low, constant), high=max(given.high, constant)))
            else:
                keeps = isinstance(constant, int) and _fits(constant, given.dtype)
                if not keeps:
                    remedy = "fill it with a whole number that fits it, or give it a `range`"
                    known.into(name, DType.FLOAT64, f".columns.{name}", remedy)
                low, high = min(given.low, constant), max(given.high, constant)
                known.put(name, Values(given.dtype if keeps else DType.FLOAT64, True, low, high))

    def run(self, frame: Frame) -> None:
        columns, numbers = frame.columns, self.numbers
        floats = [c for n in numbers if (c := columns[n]).dtype is _FLOAT64 and not c.row_shape]
        if len(floats) < len(self.constants):
            together = {c.name for c in floats}
            for name, constant in self.constants.items():
                if isinstance(constant, bytes):
                    _fill_texts(frame, name, constant)
                elif name not in together:
                    _fill_number(frame, name, constant)
        if floats:
            _fill_floats(frame, floats, numbers)


def _fill_texts(frame: Frame, name: str, constant: bytes) -> None:
    items, valid = frame.texts(name)
    if valid is not None:
        filled = [i if ok else constant for i, ok in zip(items, valid.tolist(), strict=True)]
        frame.put_texts(name, filled)


def _fill_number(frame: Frame, name: str, constant: float) -> None:
    column = frame.columns[name]
    floats, valid = frame.numbers(name)
    # The type must not depend on whether a value is missing in this batch.
    keeps = column.dtype.is_float or (isinstance(constant, int) and _fits(constant, column.dtype))
    values = column.array if keeps else floats
    missing = np.isnan(floats) if column.dtype.is_float else None
    if valid is not None:
        absent = ~valid.reshape(-1, *[1] * len(column.row_shape)) if column.row_shape else ~valid
        missing = absent if missing is None else missing | absent
    if missing is not None and missing.any():
        frame.put(name, np.where(missing, values.dtype.type(constant), values))
    elif valid is not None or not keeps:
        frame.put(name, values)


def _fill_floats(frame: Frame, columns: Sequence[Column], constants: Mapping[str, float]) -> None:
    """`_fill_number` for all columns of one float64 per row at once: features have many of them, and the NumPy calls per
    column are what costs."""
    values = np.concatenate([c.values for c in columns]).reshape(len(columns), frame.rows)
    missing = np.isnan(values)
    masks = {i: c.valid for i, c in enumerate(columns) if c.valid is not None}
    for i, valid in masks.items():
        missing[i] |= ~valid
    for i in masks.keys() | missing.any(axis=1).nonzero()[0].tolist():
        name = columns[i].name
        frame.put(name, np.where(missing[i], constants[name], values[i]))


def _constant(section: Options, name: str) -> Constant:
    value = section.raw(name)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return as_number(value, f"{section.path}.{name}")


def _fits(constant: int, dtype: DType) -> bool:
    low, high = dtype.bounds
    return low <= constant <= high


@dataclass(frozen=True, slots=True)
class IsMissing(OneColumn):
    """`is_missing: {column, into}`: True where there is no value, or NaN."""

    made = DType.BOOL

    @classmethod
    def read(cls, options: Options) -> IsMissing:
        return cls(*options.new_target())

    def run(self, frame: Frame) -> None:
        column = frame.columns[self.column]
        missing = ~column.is_valid()
        if not isinstance(column.values, Ragged) and column.dtype.is_float:
            missing |= by_row(np.isnan(frame.numbers(self.column)[0]))
        frame.put(self.into, missing)


@dataclass(frozen=True, slots=True)
class Const(Columns):
    """`const: {into, value}`: the same text, number or boolean in every row."""

    into: str
    value: Constant | bool

    @classmethod
    def read(cls, options: Options) -> Const:
        into, value = options.name("into"), options.raw("value")
        if not isinstance(value, bool):
            value = _constant(options, "value")
        return cls((), {into: _CONSTANTS[type(value)]}, into, value)

    def flow(self, known: Known) -> None:
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            known.put(self.into, Values(DType.INT64, True, self.value, self.value))
        else:
            known.put(self.into, Values.of(self.writes[self.into]))

    def run(self, frame: Frame) -> None:
        if isinstance(self.value, bytes):
            frame.put_texts(self.into, [self.value] * frame.rows)
        else:
            frame.put(self.into, np.full(frame.rows, self.value))
