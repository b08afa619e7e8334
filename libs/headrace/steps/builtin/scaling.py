"""Steps that change numbers one by one. All write float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from headrace.columns import DType
from headrace.steps.errors import SpecError
from headrace.steps.frame import Floats, Frame
from headrace.steps.options import Options, as_number
from headrace.steps.step import Columns, EachColumn
from headrace.steps.value_ranges import Known, Values


@dataclass(frozen=True, slots=True)
class Elementwise(EachColumn):
    """`function`, from float64 (rows, …) to the same shape, applied to each column of `targets`."""

    function: Callable[[Floats], Floats]
    # If whole numbers stay whole: the range that they are limited to.
    ends: tuple[float, float] | None = None

    def flow(self, known: Known) -> None:
        for read, written in self.targets:
            given, ends = known.get(read), self.ends
            if ends is None or not given.whole:
                known.put(written, Values(DType.FLOAT64))
                continue
            low, high = max(given.low, ends[0]), min(given.high, ends[1])
            made = Values(DType.FLOAT64, True, low, high)
            if not made.exact_in(DType.FLOAT64):
                remedy = "give it a `range`, or cast it before with `lossy: true`"
                known.into(read, DType.FLOAT64, "", remedy)
            known.put(written, made)

    def run(self, frame: Frame) -> None:
        for read, written in self.targets:
            values, valid = frame.numbers(read)
            frame.put(written, self.function(values), valid)


def clip(options: Options) -> Elementwise:
    """`clip: {column(s), low?, high?, into?}`."""
    targets = options.targets()
    low, high = options.raw("low", None), options.raw("high", None)
    if low is None and high is None:
        raise SpecError(options.path, "needs 'low' or 'high'")
    floor = -np.inf if low is None else options.number("low")
    ceiling = np.inf if high is None else options.number("high")
    if floor > ceiling:
        raise options.error("low", "is above 'high'")
    return Elementwise(targets, lambda x: np.minimum(np.maximum(x, floor), ceiling), (floor, ceiling))


def rescale(options: Options) -> Elementwise:
    """`rescale: {column(s), factor?, offset?, into?}`: value × factor + offset."""
    targets = options.targets()
    factor, offset = options.number("factor", 1.0), options.number("offset", 0.0)
    return Elementwise(targets, lambda x: x * factor + offset)


def round_(options: Options) -> Elementwise:
    """`round: {column(s), decimals, into?}`: to the nearest, ties to even."""
    targets, decimals = options.targets(), options.integer("decimals", low=0, high=15)
    return Elementwise(targets, lambda x: np.round(x, decimals), (-np.inf, np.inf))


@dataclass(frozen=True, slots=True)
class Log1p(EachColumn):
    """`log1p: {column(s), into?}`: ln(1 + value); a value of −1 or less fails its row."""

    @classmethod
    def read(cls, options: Options) -> Log1p:
        return cls(options.targets())

    def run(self, frame: Frame) -> None:
        for read, written in self.targets:
            values, valid = frame.numbers(read)
            bad = values <= -1
            if bad.any():
                message = f"{read!r} must be above −1 for its logarithm"
                frame.refuse_values(bad, valid, read, message)
            frame.put(written, np.log1p(values), valid)


@dataclass(frozen=True, slots=True)
class Scale(Columns):
    """`scale: {columns: {name: {mean, std} | {min, max}}}`, in place.

    (value − mean) / std, or (value − min) / (max − min). A column with several numbers per row takes lists:
    scaling one assembled column costs as much as scaling one scalar.
    """

    terms: Mapping[str, tuple[Floats, Floats]]  # (subtracted, then divided by)

    @classmethod
    def read(cls, options: Options) -> Scale:
        section = options.section("columns")
        terms = {name: _terms(section.section(name)) for name in section.values}
        return cls(tuple(terms), dict.fromkeys(terms, DType.FLOAT64), terms)

    def run(self, frame: Frame) -> None:
        for name, (offset, divisor) in self.terms.items():
            values, valid = frame.numbers(name)
            frame.put(name, (values - offset) / divisor, valid)


def _terms(options: Options) -> tuple[Floats, Floats]:
    if "min" in options or "max" in options:
        low, high = _floats(options, "min"), _floats(options, "max")
        offset, divisor, what = low, high - low, "max"
    else:
        offset, divisor, what = _floats(options, "mean"), _floats(options, "std"), "std"
    options.done()
    if (divisor <= 0).any():
        raise options.error(what, "should be above 'min'" if what == "max" else "should be above 0")
    return offset, divisor


def _floats(options: Options, key: str) -> Floats:
    value = options.raw(key)
    if isinstance(value, list | tuple):
        return np.array(options.numbers(key))
    return np.array(as_number(value, f"{options.path}.{key}"))
