"""Steps on dates and times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from headrace.columns import DType, Ragged
from headrace.steps.frame import Floats, Frame, Mask
from headrace.steps.options import Options
from headrace.steps.step import Columns
from headrace.steps.value_ranges import Known, Values

Seconds = NDArray[np.int64]
_DAY = 86400
# The years 1 to 9999, which an ISO 8601 date can express, in seconds since 1970.
_FIRST, _LAST = -62135596800, 253402300799
_LAST_YEAR = 9999


def _months(seconds: Seconds) -> NDArray[np.int64]:
    return seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)


def _day_of(unit: str, seconds: Seconds) -> NDArray[np.int64]:
    """The day of the month (`unit` M) or year (Y), from 1."""
    days = seconds.astype("datetime64[s]").astype("datetime64[D]")
    first = days.astype(f"datetime64[{unit}]").astype("datetime64[D]")
    return days.astype(np.int64) - first.astype(np.int64) + 1


_PARTS: Mapping[str, Callable[[Seconds], NDArray[np.int64]]] = {
    "year": lambda s: _months(s) // 12 + 1970,
    "month": lambda s: _months(s) % 12 + 1,
    "day": partial(_day_of, "M"),
    "hour": lambda s: s // 3600 % 24,
    "minute": lambda s: s // 60 % 60,
    "day_of_week": lambda s: (s // _DAY + 3) % 7,
    "day_of_year": partial(_day_of, "Y"),
    "weekend": lambda s: ((s // _DAY + 3) % 7 >= 5).astype(np.int64),
}


@dataclass(frozen=True, slots=True)
class DateParts(Columns):
    """`date_parts: {column, parts: […], prefix?}`: int64 columns named `prefix` + part, in UTC.

    The column holds seconds since 1970 or ISO 8601 text (without an offset: UTC). Parts: year, month (1–12),
    day, hour, minute, day_of_week (0 = Monday), day_of_year (from 1), weekend (0 or 1). Without `prefix`: the
    column's name and `_`.
    """

    column: str
    parts: tuple[str, ...]
    prefix: str

    @classmethod
    def read(cls, options: Options) -> DateParts:
        column, parts = options.name("column"), options.names("parts")
        for i, part in enumerate(parts):
            if part not in _PARTS:
                raise options.error(f"parts[{i}]", f"should be one of {', '.join(_PARTS)}")
        prefix = options.text("prefix", f"{column}_")
        return cls((column,), {prefix + part: DType.INT64 for part in parts}, column, parts, prefix)

    def flow(self, known: Known) -> None:
        for name in self.writes:
            known.put(name, Values(DType.INT64, True, 0, _LAST_YEAR))

    def run(self, frame: Frame) -> None:
        if isinstance(frame.columns[self.column].values, Ragged):
            moments, valid = self._parsed(frame)
        else:
            moments, valid = frame.numbers(self.column)
        bad = ~((moments >= _FIRST) & (moments <= _LAST))
        if bad.any():
            message = f"{self.column!r} must be ISO 8601 text or seconds since 1970, in the years 1 to 9999"
            frame.refuse_values(bad, valid, self.column, message)
            moments = np.where(bad, 0, moments)
        seconds = np.floor(moments).astype(np.int64)
        for part in self.parts:
            frame.put(self.prefix + part, _PARTS[part](seconds), valid)

    def _parsed(self, frame: Frame) -> tuple[Floats, Mask | None]:
        items, valid = frame.texts(self.column)
        known = {item: _moment(item) for item in set(items)}
        return np.array([known[i] for i in items], np.float64), valid


def _moment(item: bytes) -> float:
    """Seconds since 1970; NaN if the text is no date."""
    try:
        moment = datetime.fromisoformat(item.decode())
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, slots=True)
class Cyclic(Columns):
    """`cyclic: {column, period, into?: [sin, cos]}`: the position of the value in its period, as two float64 columns.

    Without `into`, they have the column's name with `_sin` and `_cos`.
    """

    column: str
    period: float

    @classmethod
    def read(cls, options: Options) -> Cyclic:
        column, period = options.name("column"), options.number("period")
        if period <= 0:
            raise options.error("period", "should be above 0")
        into = options.names("into") if "into" in options else (f"{column}_sin", f"{column}_cos")
        if len(into) != 2:
            raise options.error("into", "should be two names, for the sine and the cosine")
        return cls((column,), dict.fromkeys(into, DType.FLOAT64), column, period)

    def run(self, frame: Frame) -> None:
        values, valid = frame.numbers(self.column)
        angle = values * (2 * np.pi / self.period)
        for name, function in zip(self.writes, (np.sin, np.cos), strict=True):
            frame.put(name, function(angle), valid)
