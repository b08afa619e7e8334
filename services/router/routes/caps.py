"""The caps of a release: what a pipeline, and one session of it, may use. Refuses requests before anything is computed.

A request (its rows in a batch) passes or is refused as a whole. A state machine; the clock is passed in.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeAlias

from headrace.columns import Batch, RowError
from headrace.hop.errors import Fault
from headrace.hop.limiters import PIPELINE_IN_FLIGHT, PIPELINE_ROWS, SESSION_ROWS, Limiter
from headrace.hop.resilience.limiter import TokenBucket
from headrace.releases import Cap
from services.router.routes.assignment import keys_of

# Sessions whose use is remembered. The one that was idle longest is forgotten, and begins anew with a full bucket.
MAX_SESSIONS = 10_000
_RETRY_IN_FLIGHT_S = 0.05
Session: TypeAlias = Hashable


class PipelineCaps:
    """The caps of one pipeline. It stays while releases change, so that none of them makes what was used forgotten.

    `clock`: monotonic seconds. `routers`: how many there are; each has its part of caps that are `shared`.
    """

    def __init__(self, pipeline: str, clock: Callable[[], float], routers: int = 1) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._routers = routers
        self._cap = Cap()
        self._rows: TokenBucket | None = None
        self._sessions: OrderedDict[Session, TokenBucket] = OrderedDict()
        self.in_flight = 0

    @property
    def sessions(self) -> int:
        """How many are remembered."""
        return len(self._sessions)

    def apply(self, cap: Cap | None) -> None:
        """Has these limits from now on; None: no limits."""
        old, new = self._cap, cap or Cap()
        self._cap = new
        if (new.rows_per_s, new.shared) != (old.rows_per_s, old.shared):
            rate = None if new.rows_per_s is None else self._part(new.rows_per_s)
            self._rows = None if rate is None else TokenBucket(rate, rate, self._clock())
        if _sessions(new) != _sessions(old):
            self._sessions.clear()

    def share(self, routers: int) -> None:
        """So many routers serve now. What was used is not forgotten."""
        if routers == self._routers:
            return
        self._routers = routers
        cap, now = self._cap, self._clock()
        if not cap.shared:
            return
        if cap.rows_per_s is not None and self._rows is not None:
            self._rows.resize(self._part(cap.rows_per_s), self._part(cap.rows_per_s), now)
        if cap.session_rows_per_s is not None:
            rate = self._part(cap.session_rows_per_s)
            for bucket in self._sessions.values():
                bucket.resize(rate, rate, now)

    def admit(self, batch: Batch) -> tuple[Batch, int]:
        """The batch, in which the rows of refused requests have errors, and the rows that are in flight now.

        `release` must follow with that number.
        """
        now, passed = self._clock(), 0
        sessions = self._sessions_of(batch)
        refused: dict[int, RowError] = {}
        for start, stop in _requests(batch.rows.request_ids):
            rows = [row for row in range(start, stop) if row not in batch.errors]
            if not rows:
                continue
            try:
                self._take(sessions[start] if sessions else None, len(rows), now)
            except Fault as fault:
                refused |= dict.fromkeys(rows, RowError.of(fault))
            else:
                passed += len(rows)
                self.in_flight += len(rows)
        return batch.with_errors(refused), passed

    def release(self, rows: int) -> None:
        """So many rows were answered."""
        self.in_flight -= rows

    def _take(self, session: Session | None, rows: int, now: float) -> None:
        """Takes what a request needs. Raises Fault RESOURCE_EXHAUSTED; then nothing is taken."""
        cap, own, all_rows = self._cap, None, self._rows
        if session is not None and cap.session_rows_per_s is not None:
            own = self._bucket(session, self._part(cap.session_rows_per_s), now)
            wait = own.wait(now, rows)
            if wait:
                limit = self._limit(cap.session_rows_per_s, "rows per second of one session")
                raise self._refusal(SESSION_ROWS, limit, wait)
        # One request of more rows than may be in flight passes alone, as it could never pass otherwise.
        most = cap.rows_in_flight
        if most is not None and self.in_flight and self.in_flight + rows > max(int(self._part(most)), 1):
            raise self._refusal(PIPELINE_IN_FLIGHT, self._limit(most, "rows in flight"), _RETRY_IN_FLIGHT_S)
        if all_rows is not None:
            wait = all_rows.wait(now, rows)
            if wait:
                raise self._refusal(PIPELINE_ROWS, self._limit(cap.rows_per_s or 0, "rows per second"), wait)
            all_rows.spend(rows)
        if own is not None:
            own.spend(rows)

    def _part(self, limit: float) -> float:
        """What this router has of a limit."""
        return limit / self._routers if self._cap.shared else limit

    def _limit(self, limit: float, of: str) -> str:
        divided = self._cap.shared and self._routers > 1
        return f"{limit:g} {of}" + (f" in {self._routers} routers together" if divided else "")

    def _refusal(self, limiter: Limiter, limit: str, wait: float) -> Fault:
        after = max(math.ceil(wait * 1000), 1)
        return limiter.refusal(
            f"pipeline {self._pipeline} is limited to {limit}; try again in {after} ms",
            retry_after_s=after / 1000,
            pipeline=self._pipeline,
            limit=limit,
            retry_after_ms=str(after),
        )

    def _sessions_of(self, batch: Batch) -> list[Session]:
        """The session of each row. Rows without one share one per tenant: leaving it out must not be a way around the cap."""
        by = self._cap.session_by
        if by is None:
            return []
        keys = keys_of(batch, by) or [None] * len(batch)
        return list(zip(batch.rows.tenants, keys, strict=True))

    def _bucket(self, session: Session, rate: float, now: float) -> TokenBucket:
        bucket = self._sessions.get(session)
        if bucket is None:
            bucket = self._sessions[session] = TokenBucket(rate, rate, now)
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(session)
        return bucket


def _sessions(cap: Cap) -> tuple[object, ...]:
    return cap.session_by, cap.session_rows_per_s, cap.shared


def _requests(ids: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where the rows of each request begin and end: those of one id that stand together."""
    start, count = 0, len(ids)
    for row in range(1, count + 1):
        if row == count or ids[row] != ids[start]:
            yield start, row
            start = row
