"""Prediction events → counts of answers, for the pipelines whose rollouts are judged. In the event loop, so by NumPy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType
from headrace.drift.signature import element_names
from headrace.events import BUSY_US, CACHED, CODE, KEY, LATENCY_US, REASON, ROW, TIME_US, EventGroup
from headrace.hop.errors import BLAME, OUR_CODES, Blame
from headrace.releases.spans import LIVE
from services.monitoring.guards.answers import (
    BINS,
    ELEMENTS,
    Answers,
    Ends,
    Plan,
    element,
    places,
    plan_of,
    segments,
)

# Units of both arms that the plan is made of; nothing is compared before.
LEARNED = 500
# Of the live arm alone: batches that say what is slow or dear.
_BATCHES = 10
# A pipeline that nobody judges any more is not counted.
_SILENT_S = 15.0
_SLOTS = 1 << 20
_OURS = np.zeros(1 + max(BLAME), bool)
_OURS[[reason for reason, who in BLAME.items() if who is not Blame.CALLER]] = True
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is counted of a pipeline: rows of these arms under releases from `since` on. `by_key`: arms stick to keys, so keys are
    counted. `ranges`: of outputs, or of NAME[i]; `segments`: input column → values."""

    since: int
    arms: tuple[str, ...]
    by_key: bool = False
    ranges: Mapping[str, Ends] = field(default_factory=dict)
    segments: Mapping[str, Sequence[Any]] = field(default_factory=dict)


class AnswerCounter:
    """A `GroupObserver`. In one thread."""

    def __init__(self) -> None:
        self._counted: dict[str, _Counted] = {}

    def observe_group(self, group: EventGroup, now: float) -> None:
        """Counts what callers got, if somebody judges it: no shadows, no replays."""
        header = group.header
        counted = self._counted.get(header.pipeline)
        if counted is None or header.shadow_of or header.replayed:
            return
        if abs(now - counted.asked) > _SILENT_S:
            del self._counted[header.pipeline]
        elif header.release >= counted.wanted.since and header.arm in counted.wanted.arms:
            counted.count(group)

    def taken(self, pipeline: str, wanted: Wanted, now: float) -> Mapping[tuple[int, str], Answers]:
        """(release, arm) → what was counted since the last call; what is wanted is counted from now on."""
        counted = self._counted.get(pipeline)
        if counted is None or counted.wanted != wanted:
            counted = self._counted[pipeline] = _Counted(wanted)
        counted.asked = now
        found, counted.found = counted.found, {}
        return found


class _Counted:
    """Of one pipeline."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.asked = 0.0
        self.found: dict[tuple[int, str], Answers] = {}
        self._plan: Plan | None = None
        self._sample: dict[tuple[str, int], list[Any]] = {}
        self._times: dict[str, list[Any]] = {LATENCY_US: [], BUSY_US: []}
        self._tenants: Counter[str] = Counter()
        self._learned = 0
        # Keys that had a bad answer of each kind, and all that were met, by slots of their hashes: two keys that share a slot
        # count as one, in whichever arm they are.
        self._bad_keys = np.zeros((3, _SLOTS if wanted.by_key else 0), bool)
        self._met = np.zeros(_SLOTS if wanted.by_key else 0, bool)

    def count(self, group: EventGroup) -> None:
        header, columns = group.header, group.batch.columns
        answers = self.found.setdefault((header.release, header.arm), Answers())
        answers.ranged = bool(self.wanted.ranges)
        fresh = np.ones(len(group), bool)
        if CACHED in columns:
            # What was kept says nothing of today's model.
            fresh &= ~columns[CACHED].array.astype(bool)
        answers.rows += len(group)
        slots = self._slots(columns) if self.wanted.by_key else None
        if slots is not None:
            fresh &= slots >= 0
        rows = np.flatnonzero(fresh)
        if not len(rows):
            return
        good = rows[columns[CODE].array[rows] == 0]
        begin = _begins(columns[ROW].array)
        if len(good):
            bad = self._bad(header.outputs, columns)[:, good]
            answers.bad += (
                _by_key(bad, slots[good], self._bad_keys)
                if slots is not None
                else _by_request(bad, begin[good])
            )
        units = rows[self._first(slots[rows])] if slots is not None else rows[_first_of_runs(begin[rows])]
        batches = rows[_first_of_runs(columns[TIME_US].array[rows])]
        if self._plan is None:
            self._learn(group, units, batches)
        else:
            answers.plan = self._plan
            self._compare(self._plan, answers, group, rows, units, batches)

    def _slots(self, columns: Mapping[str, Column]) -> Rows:
        """The slot of each row's key; −1: it has none."""
        column = columns.get(KEY)
        found = np.full(len(columns[CODE]), -1)
        if column is not None and (there := np.flatnonzero(column.is_valid())).size:
            # Hashes of 16 bytes.
            words = np.frombuffer(column.take(there).ragged.compact().data, "<u8")[::2]
            found[there] = words % np.uint64(_SLOTS)
        return found

    def _first(self, slots: Rows) -> Rows:
        """Where keys are that no arm had met."""
        keys, at = np.unique(slots, return_index=True)
        new = at[~self._met[keys]]
        self._met[keys] = True
        return new

    def _bad(self, outputs: Sequence[str], columns: Mapping[str, Column]) -> NDArray[np.bool_]:
        """(3, rows): which have a value that is not finite, none at all, or one out of its range."""
        bad = np.zeros((3, len(columns[CODE])), bool)
        for name in outputs:
            column = columns[name]
            there = column.is_valid()
            bad[1] |= ~there
            if column.dtype is DType.BYTES or column.dtype is DType.BOOL:
                continue
            values = column.array.reshape(len(column), -1)
            finite = np.isfinite(values) if column.dtype.is_float else np.ones(values.shape, bool)
            bad[0] |= there & ~finite.all(axis=1)
            low, high = self._range(name, values.shape[1])
            bad[2] |= there & (finite & ((values < low) | (values > high))).any(axis=1)
        return bad

    def _range(self, name: str, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ranges, whole = self.wanted.ranges, self.wanted.ranges.get(name, (-np.inf, np.inf))
        ends = np.array([ranges.get(n, whole) for n in element_names(name, size)] if ranges else [whole])
        return ends[:, 0], ends[:, 1]

    def _learn(self, group: EventGroup, units: Rows, batches: Rows) -> None:
        header, columns = group.header, group.batch.columns
        seen = [n for n in header.outputs if n not in header.masked]
        for name in seen:
            column = columns[name]
            for place in range(min(column.row_size, ELEMENTS)):
                if (name, place) not in self._sample and len(self._sample) >= ELEMENTS:
                    break
                if column.dtype is not DType.BYTES:
                    values = element(column, place)[units]
                    found = values[np.isfinite(values)].tolist()
                elif column.row_shape:
                    break
                else:
                    found = column.take(units[column.is_valid()[units]]).ragged.to_list()
                self._sample.setdefault((name, place), []).extend(found)
        for name, times in self._times.items() if header.arm == LIVE else ():
            times.extend(columns[name].array[batches].tolist())
        self._tenants.update(group.batch.rows.tenants)
        self._learned += len(units)
        if self._learned >= LEARNED and len(self._times[BUSY_US]) >= _BATCHES:
            sample = {at: values for at, values in self._sample.items() if values}
            times_us = {name: np.array(times) for name, times in self._times.items()}
            unseen = [*header.omitted, *header.masked]
            self._plan = plan_of(sample, times_us, self._tenants, self.wanted.segments, unseen)
            self._sample.clear()

    def _compare(
        self, plan: Plan, answers: Answers, group: EventGroup, rows: Rows, units: Rows, batches: Rows
    ) -> None:
        columns = group.batch.columns
        values = places(plan, columns, units)
        failed = _failed(columns)[units]
        slow = columns[LATENCY_US].array > plan.slow_us
        whole = np.zeros(len(group), np.int64)
        for of_row in (whole, *segments(plan, columns, group.batch.rows.tenants)):
            chosen = of_row[units]
            inside = (chosen > 0) if of_row is not whole else np.ones(len(units), bool)
            at = np.where((values >= 0) & inside[:, None], chosen[:, None] * ELEMENTS * BINS + values, -1)
            _add(answers.values, at[at >= 0])
            _add(answers.failed, chosen[inside] * 2)
            _add(answers.failed, chosen[inside & failed] * 2 + 1)
            # One batch has one time, so each segment has it once.
            first = batches if of_row is whole else _first_of_each(of_row, rows, columns[TIME_US].array)
            _add(answers.slow, of_row[first] * 2)
            _add(answers.slow, of_row[first[slow[first]]] * 2 + 1)
        answers.costly += np.array([len(batches), (columns[BUSY_US].array[batches] > plan.costly_us).sum()])


def _add(counts: NDArray[np.int64], at: NDArray[np.int64]) -> None:
    counts += np.bincount(at, minlength=counts.size).reshape(counts.shape)


def _failed(columns: Mapping[str, Column]) -> Mask:
    """Rows that failed by a fault of ours."""
    codes, reasons = columns[CODE].array, columns[REASON].array
    ours: Mask = (codes != 0) & (
        np.isin(codes, [int(c) for c in OUR_CODES]) | _OURS[np.minimum(reasons, len(_OURS) - 1)]
    )
    return ours


def _begins(places_in_request: NDArray[np.uint32]) -> Rows:
    """The number of each row's request, counted in the group: rows of one follow one another in their order."""
    begun = np.ones(len(places_in_request), bool)
    begun[1:] = places_in_request[1:] <= places_in_request[:-1]
    return np.cumsum(begun)


def _first_of_runs(values: NDArray[Any]) -> Rows:
    first = np.ones(len(values), bool)
    first[1:] = values[1:] != values[:-1]
    return np.flatnonzero(first)


def _first_of_each(of_row: NDArray[np.int64], rows: Rows, times: NDArray[np.int64]) -> Rows:
    """The first of these rows of each segment in each batch."""
    inside = rows[of_row[rows] > 0]
    batch = np.cumsum(np.diff(times, prepend=times[:1]) != 0)
    _, at = np.unique(batch[inside] * (1 + int(of_row.max())) + of_row[inside], return_index=True)
    return inside[at]


def _by_request(bad: NDArray[np.bool_], request: Rows) -> NDArray[np.int64]:
    at = _first_of_runs(request)
    return np.stack([np.full(3, len(at)), np.logical_or.reduceat(bad, at, axis=1).sum(axis=1)], axis=1)


def _by_key(bad: NDArray[np.bool_], slots: Rows, known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows of keys that were not bad before, and keys that are for the first time in any arm."""
    found = []
    for of_kind, before in zip(bad, known, strict=True):
        risk = ~before[slots]
        keys = np.unique(slots[risk & of_kind])
        before[keys] = True
        found.append((int(risk.sum()), len(keys)))
    return np.array(found)
