"""From the rows that a store gave to the columns of a reply, with the age of each row and where it came from."""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import dataclass

from services.features.keying import Keys
from services.features.packing import Packed
from services.features.planning import ViewPlan
from services.features.ports import Rows

_MICRO = 1_000_000
_UNKNOWN_AGE = -1


class Source(enum.IntEnum):
    """Numbered as headrace.api.features.v1.Source."""

    PRESENT = 1
    NOT_FOUND = 2
    OUTSIDE_MAX_AGE = 3
    STALE = 4
    DEFAULT = 5


_PRESENT, _NOT_FOUND, _OUTSIDE, _STALE, _DEFAULT = map(int, Source)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a view's distinct keys. `asked`: the store answered; else `rows` come from memory."""

    view: ViewPlan
    keys: Keys
    rows: Rows
    asked: bool


@dataclass(slots=True)
class Judged:
    """A view's rows, one per row of the batch.

    `values`: per row those of the features, serialised, empty = null. `sources`: one byte per row. `ages_us`: −1 where
    no row is known. `ahead_s`: how far the newest event time lies in the future.
    """

    view: ViewPlan
    values: list[tuple[bytes, ...]]
    sources: bytes
    ages_us: list[int]
    ahead_s: float = 0.0


def judge(answer: Answer, now: float) -> Judged:
    """What may be used of an answer as of `now` (seconds since 1970).

    A row that is older than the time to live has no values, but keeps its age. A time in the future, as clocks that
    disagree make them, is of age 0.
    """
    view, keys, asked = answer.view, answer.keys, answer.asked
    ttl = view.ttl_s or math.inf
    nothing = (b"",) * len(view.features)
    good, absent = (_PRESENT, _NOT_FOUND) if asked else (_STALE, _DEFAULT)
    values: list[tuple[bytes, ...]] = []
    sources, ages, ahead = bytearray(), [], 0.0
    for row in answer.rows:
        age = now - row.time if row is not None else math.inf
        if row is not None and age <= ttl:
            if age < 0:
                age, ahead = 0.0, max(ahead, -age)
            values.append(row.values)
            sources.append(good)
            ages.append(int(age * _MICRO))
        elif row is not None and asked:
            values.append(nothing)
            sources.append(_OUTSIDE)
            ages.append(int(age * _MICRO))
        else:
            # What is remembered but too old is no better than nothing: the store may hold something newer.
            values.append(nothing)
            sources.append(absent)
            ages.append(_UNKNOWN_AGE)
    if keys.place is None:
        return Judged(view, values, bytes(sources), ages, ahead)
    # One more than there are keys: the row of those that have no key. It is not in the store, asked or not.
    values.append(nothing)
    sources.append(_NOT_FOUND)
    ages.append(_UNKNOWN_AGE)
    place = keys.place
    return Judged(
        view, [values[p] for p in place], bytes([sources[p] for p in place]), [ages[p] for p in place], ahead
    )


def pack(judged: Judged) -> list[Packed]:
    """The view's columns: its features in order, then the ages (INT64, µs) and the sources (UINT8)."""
    by_feature = zip(*judged.values, strict=True)
    columns = [pack(raws) for pack, raws in zip(judged.view.packers, by_feature, strict=True)]
    columns.append(Packed(struct.pack(f"<{len(judged.ages_us)}q", *judged.ages_us)))
    columns.append(Packed(judged.sources))
    return columns
