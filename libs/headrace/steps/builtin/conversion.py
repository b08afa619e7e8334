"""Steps that change a column's type, or its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from headrace.columns import Column, DType
from headrace.steps.frame import Frame
from headrace.steps.options import Options
from headrace.steps.step import Columns, EachColumn
from headrace.steps.value_ranges import Known, Values


@dataclass(frozen=True, slots=True)
class Cast(EachColumn):
    """`cast: {column(s), type, into?, lossy?}`: another numeric type.

    To an integer type, a fraction is cut towards 0; a value that does not fit, or NaN, fails its row. `lossy: true` lets
    `headrace pipeline check` pass whole numbers that a float type does not have exactly.
    """

    dtype: DType
    lossy: bool = False

    @classmethod
    def read(cls, options: Options) -> Cast:
        targets, dtype = options.targets(), options.dtype("type")
        if dtype is DType.BYTES:
            raise options.error("type", "should be a numeric type or bool")
        return cls(targets, dtype, options.flag("lossy", False))

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
            made[written] = replace(values, dtype=self.dtype, chosen_by="")
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
    """Fails the rows whose values do not fit the integer type. `exact`: also the rows with fractions, which a cast cuts."""
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
        message = f"{column.name!r} does not fit {dtype.name.lower()} ({low} to {high})"
        frame.refuse_values(~fits, column.valid, column.name, message)


@dataclass(frozen=True, slots=True)
class Rename(Columns):
    """`rename: {columns: {old: new}}`; the old names stay."""

    names: Mapping[str, str]

    @classmethod
    def read(cls, options: Options) -> Rename:
        section = options.section("columns")
        names = {old: section.name(old) for old in section.values}
        return cls(tuple(names), dict.fromkeys(names.values()), names)

    def flow(self, known: Known) -> None:
        found = {new: known.get(old) for old, new in self.names.items()}
        for new, values in found.items():
            known.put(new, values)

    def run(self, frame: Frame) -> None:
        found = {new: frame.columns[old] for old, new in self.names.items()}
        for new, column in found.items():
            frame.put_column(new, column)
