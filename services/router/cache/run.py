"""Runs a batch on a route whose answers are kept: only rows without a kept answer go through the tail of the pipeline.

The head (features, and what they wait for) always runs, so the values of features are part of each key. Rows that failed or
fell back there are not looked up and not kept. The answers that the tail gives without error and fallback are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, RowError, Timing
from headrace.columns.column import join
from headrace.hop.errors import Code
from headrace.pipeline import ModelUse
from services.router.cache import meter as outcomes
from services.router.cache.route import CachedRoute, Flight
from services.router.cache.rows import Answer, answers_of, columns_of, fields_of, row_keys
from services.router.ports import Meter
from services.router.routes.run import RouteResult, RouteRun, absent
from services.router.routes.scatter import scatter
from services.router.stages.by_replica import REPLICA

# Annotation, int64: age of the kept answer that a row got, in microseconds; −1: it got a new one.
CACHED = "@cached_us"
# Fallback of rows that got a kept answer beyond its ttl as theirs could not be computed.
STALE = "cache:stale"
# What it means that a stage can't be run now. Other errors would come again.
_OUTAGES = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})

Part = tuple[NDArray[np.intp], dict[str, Column]]
"""Rows, ascending, and columns for them."""


@dataclass(slots=True)
class _Tail:
    """The tail for some of the rows. `rows`: their positions in the batch."""

    rows: NDArray[np.intp]
    run: RouteRun


@dataclass(slots=True)
class CachedRun:
    """One batch. `keys`: of the rows that may be looked up, without the prefix. `found`: rows with a kept answer, and its age in
    seconds. `leading`: rows for whose key others may wait, with their whole key."""

    cached: CachedRoute
    batch: Batch
    clock: Callable[[], float]
    meter: Meter
    head: RouteRun = field(init=False)
    keys: dict[int, bytes] = field(default_factory=dict)
    found: dict[int, tuple[Answer, float]] = field(default_factory=dict)
    leading: dict[int, bytes] = field(default_factory=dict)
    tails: list[_Tail] = field(default_factory=list)
    stale: list[int] = field(default_factory=list)
    shared: int = 0

    async def run(self) -> RouteResult:
        """Raises Fault INVALID_ARGUMENT if the batch lacks an input."""
        self.head = RouteRun(self.cached.head, self.batch, self.clock, self.meter)
        self.head.check_inputs()
        await self.head.run_stages()
        began = self.clock()
        live = [row for row in range(len(self.batch)) if row not in self.head.errors]
        self._make_keys(live)
        followers = self._look_up()
        try:
            await self._ask_shared()
            await self._run_tail([row for row in live if row not in self.found and row not in followers])
        finally:
            # Whatever happened to this batch, nobody waits for it any longer.
            for key in self.leading.values():
                self.cached.answers.land(key, None)
        await self._run_tail(await self._follow(followers))
        await self._take_stale()
        self._time(began)
        return self._result(live)

    def _make_keys(self, live: Sequence[int]) -> None:
        """The keys of live rows without a fallback."""
        fell_back = np.zeros(len(self.batch), bool)
        for mask in self.head.fallbacks.values():
            fell_back |= mask
        rows = [row for row in live if not fell_back[row]] if self.head.fallbacks else live
        if not rows:
            return
        columns = [self.head.columns[name] for name in self.cached.cut.between]
        tenants = self.batch.rows.tenants
        if len(rows) < len(self.batch):
            index = np.array(rows, np.intp)
            columns, tenants = [c.take(index) for c in columns], [tenants[row] for row in rows]
        self.keys = dict(zip(rows, row_keys(b"", tenants, columns), strict=True))

    def _look_up(self) -> dict[int, Flight]:
        """Finds kept answers; returns the rows that wait for others, and for what. The rest lead."""
        prefix, answers, now = self.cached.prefix, self.cached.answers, self.clock()
        followers: dict[int, Flight] = {}
        if not prefix:
            return followers
        for row, bare in self.keys.items():
            key = prefix + bare
            kept = answers.entries.fresh(key, now)
            if kept is not None:
                self.found[row] = kept
            elif (flight := answers.flights.get(key)) is not None:
                followers[row] = flight
            else:
                answers.flights[key] = asyncio.get_running_loop().create_future()
                self.leading[row] = key
        return followers

    async def _ask_shared(self) -> None:
        """Looks up what this router does not have in the store that it shares with others."""
        answers = self.cached.answers
        if answers.shared is None or not self.leading:
            return
        kept_s, ttl_s = answers.rule.kept_us / 1e6, answers.rule.ttl_us / 1e6
        there = await answers.shared.get(list(self.leading.values()), kept_s)
        now = self.clock()
        for row, key in list(self.leading.items()):
            answer, age = there.get(key, (None, 0.0))
            if answer is None:
                continue
            answer = replace(answer, fields=answers.same(answer.fields))
            answers.entries.put(key, answer, answer.size_bytes, now - age)
            if age <= ttl_s:
                self.found[row] = answer, age
                answers.land(key, answer)
                del self.leading[row]

    async def _run_tail(self, rows: Sequence[int]) -> None:
        """Runs the tail for these rows, and keeps what may be kept."""
        if not rows:
            return
        index, columns = np.array(rows, np.intp), {n: self.head.columns[n] for n in self.cached.cut.between}
        if REPLICA in self.head.columns:
            columns[REPLICA] = self.head.columns[REPLICA]
        batch = Batch(self.batch.rows, columns)
        if len(rows) < len(self.batch):
            batch = batch.take(index)
        run = RouteRun(self.cached.tail, batch, self.clock, self.meter)
        run.began = self.head.began
        self.tails.append(_Tail(index, run))
        forgets = self.cached.forgets()
        await run.run_stages()
        if self.cached.forgets() == forgets:  # else a model may have been exchanged meanwhile
            await self._keep(index, run)

    async def _keep(self, rows: NDArray[np.intp], run: RouteRun) -> None:
        """Keeps the answers of rows without error and fallback, under the models that the replies name."""
        unfit = set(run.errors)
        for mask in run.fallbacks.values():
            unfit.update(np.flatnonzero(mask).tolist())
        fit = [i for i, row in enumerate(rows.tolist()) if i not in unfit and row in self.keys]
        # If every row failed, perhaps not every stage has named its model yet.
        if fit or self.cached.prefix:
            self.cached.reported(_models(run))
        if not fit:
            return
        columns = [run.columns[name] for name in self.cached.cut.writes] + list(run.annotations.values())
        if len(fit) < len(rows):
            index = np.array(fit, np.intp)
            columns = [c.take(index) for c in columns]
        fields = self.cached.answers.same(fields_of(columns))
        made = answers_of(columns, tuple(_models(run)), fields)
        answers, prefix, now = self.cached.answers, self.cached.prefix, self.clock()
        kept: dict[bytes, Answer] = {}
        for i, answer in zip(fit, made, strict=True):
            row = int(rows[i])
            key = prefix + self.keys[row]
            kept[key] = answer
            answers.entries.put(key, answer, answer.size_bytes, now)
            if row in self.leading:
                answers.land(self.leading[row], answer)
        if answers.shared is not None:
            await answers.shared.put(list(kept.items()), answers.rule.kept_us / 1e6)

    async def _follow(self, followers: dict[int, Flight]) -> list[int]:
        """Waits for the answers that other rows compute; returns the rows that have to run after all."""
        if not followers:
            return []
        waiting = {flight for flight in followers.values() if not flight.done()}
        if waiting:
            last = max(self.batch.rows.deadlines[row] for row in followers)
            await asyncio.wait(waiting, timeout=max(last - self.clock(), 0.0))
        left = []
        for row, flight in followers.items():
            answer = flight.result() if flight.done() else None
            if answer is None:
                left.append(row)
            else:
                self.found[row] = answer, 0.0
                self.shared += 1
        return left

    async def _take_stale(self) -> None:
        """Gives old answers to rows that a stage could not answer now, if the document allows it."""
        answers = self.cached.answers
        if not answers.rule.stale_us:
            return
        prefix, now, deadlines = self.cached.prefix, self.clock(), self.batch.rows.deadlines
        for tail in self.tails:
            for i, error in list(tail.run.errors.items()):
                row = int(tail.rows[i])
                if error.code not in _OUTAGES or row not in self.keys or deadlines[row] <= now or not prefix:
                    continue
                kept = answers.entries.stale(prefix + self.keys[row], now)
                if kept is not None and kept[1] <= answers.rule.stale_us / 1e6:
                    self.found[row] = kept
                    self.stale.append(row)
                    del tail.run.errors[i]

    def _time(self, began: float) -> None:
        """A span for the look-up, which says what was saved."""
        if not self.found:
            return
        start_us, end_us = int((began - self.head.began) * 1e6), int((self.clock() - self.head.began) * 1e6)
        saved = " ".join(s.stage.name for s in self.cached.tail.plan.stages)
        took_us = end_us - start_us if not self.tails else 0
        attributes = {"saved": saved, "rows": str(len(self.found))}
        self.head.timings.append(Timing("cache", "router", start_us, took_us, len(self.found), attributes))

    def _result(self, live: Sequence[int]) -> RouteResult:
        head, count = self.head, len(self.batch)
        parts = self._parts()
        for name in dict.fromkeys(n for _, columns in parts for n in columns):
            pieces = [(rows, columns[name]) for rows, columns in parts if name in columns]
            merged = _merged(pieces, count)
            (head.annotations if name.startswith("@") else head.columns)[name] = merged
        for tail in self.tails:
            self._add(tail)
        for answer, _ in self.found.values():
            for model in answer.models:
                head.models.setdefault(model.stage, [model])
        if self.found:
            head.annotations[CACHED] = self._ages(count)
        if self.stale:
            mask = np.zeros(count, bool)
            mask[self.stale] = True
            head.fallbacks[STALE] = mask
        self._count(live)
        return head.result()

    def _parts(self) -> list[Part]:
        """The columns that rows got, from the tail and from kept answers."""
        cut, parts = self.cached.cut, list[Part]()
        for tail in self.tails:
            columns = {n: tail.run.columns[n] for n in cut.writes if n in tail.run.columns}
            kept = [i for i, row in enumerate(tail.rows.tolist()) if row not in self.found]
            rows, columns = tail.rows, columns | tail.run.annotations
            if len(kept) < len(rows):
                index = np.array(kept, np.intp)
                rows, columns = rows[index], {n: c.take(index) for n, c in columns.items()}
            if len(rows):
                parts.append((rows, columns))
        alike: dict[int, list[int]] = {}
        for row in sorted(self.found):
            alike.setdefault(id(self.found[row][0].fields), []).append(row)
        for found in alike.values():
            made = columns_of([self.found[row][0] for row in found])
            parts.append((np.array(found, np.intp), {c.name: c for c in made}))
        return parts

    def _add(self, tail: _Tail) -> None:
        """Adds what a run of the tail gave besides columns."""
        head, run, rows = self.head, tail.run, tail.rows
        errors: dict[int, RowError] = {int(rows[i]): error for i, error in run.errors.items()}
        head.errors.update(errors)
        for name, used in run.fallbacks.items():
            mask = head.fallbacks.setdefault(name, np.zeros(len(self.batch), bool)).copy()
            mask[rows] |= used
            head.fallbacks[name] = mask
        head.refusals.update(run.refusals)
        head.timings.extend(run.timings)
        head.models.update(run.models)

    def _ages(self, count: int) -> Column:
        ages = np.full(count, absent(DType.INT64), np.int64)
        for row, (_, age) in self.found.items():
            ages[row] = int(age * 1e6)
        return Column(CACHED, DType.INT64, ages)

    def _count(self, live: Sequence[int]) -> None:
        answers = self.cached.answers
        hits = len(self.found) - self.shared - len(self.stale)
        ran = sum(len(tail.rows) for tail in self.tails)
        bypassed = len(live) - len(self.keys)
        counts = {
            outcomes.HIT: hits,
            outcomes.SHARED: self.shared,
            outcomes.STALE: len(self.stale),
            outcomes.BYPASS: bypassed,
            outcomes.MISS: ran - bypassed - len(self.stale),
        }
        answers.count(counts)


def _merged(pieces: Sequence[tuple[NDArray[np.intp], Column]], count: int) -> Column:
    """One column of all rows; a row that is in no piece holds what means nothing."""
    rows, column = pieces[0]
    if len(pieces) > 1:
        rows, column = np.concatenate([r for r, _ in pieces]), join([c for _, c in pieces])
        order = np.argsort(rows, kind="stable")
        rows, column = rows[order], column.take(order)
    return column if len(rows) == count else scatter(column, rows, count, _fill(column))


def _fill(column: Column) -> int:
    return absent(column.dtype) if column.name.startswith("@") and column.dtype is not DType.BYTES else 0


def _models(run: RouteRun) -> list[ModelUse]:
    return [used for stage in run.models.values() for used in stage]
