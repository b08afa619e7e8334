"""Explains rows: those of requests that are waited for, and below them stored predictions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from weakref import WeakKeyDictionary

from headrace.hop.errors import Code, Fault
from services.router.explanations.metrics import ExplanationMetrics
from services.router.explanations.pieces import Explained, Pacing, PieceSize, Row, explain
from services.router.explanations.pixels import explain_pixels
from services.router.explanations.reports import Reports
from services.router.explanations.settings import ExplanationSettings
from services.router.explanations.subject import Subject
from services.router.explanations.turns import Entry, FairSlot, Turns
from services.router.shadow.run import Turn
from services.router.shadow.shadows import Shadows

# What a loaded callee refuses is tried again after a pause.
_LATER = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
_TRIES, _PAUSE_S = 3, 0.5
_LONGEST_REST_S = 0.01
# In whose name the task takes its turns: no tenant's.
_NOBODY = "\0"
# There are live calls if one began within this time; then a piece that is waited for works a tenth of the time at most.
_LIVE_S, _REST_BESIDE_LIVE = 1.0, 9.0
# The stages work for stored predictions this share of the time at most: the pace of shadows, which compares only the calls that
# met a piece, would leave a hundredth.
_STORED_SHARE = 0.2


def asked_rest(paced_s: float, worked_s: float, since_live_s: float) -> float:
    """Seconds to rest after a piece of an explanation that somebody waits for. `paced_s`: the rest of one that nobody waits for;
    `worked_s`: how long the piece worked; `since_live_s`: since the last live batch began.

    Not long, as there are few of them. But a piece of a picture works so long that it would take most of a processor, then.
    """
    beside = _REST_BESIDE_LIVE * worked_s if since_live_s < _LIVE_S else 0.0
    return min(paced_s, max(_LONGEST_REST_S, beside))


def stored_rest(worked_s: float, passed_s: float) -> float:
    """Seconds to rest after a piece of stored predictions that worked so long. `passed_s`: since it got its turn; waiting for
    live calls is rest, too."""
    return max(0.0, worked_s / _STORED_SHARE - passed_s)


class Explainer:
    """Explains rows in pieces, of which one runs at a time: tenants with requests, and the task for those that nobody waits for,
    take turns. `shadows`: say when live calls run. `clock`: monotonic seconds."""

    def __init__(
        self,
        settings: ExplanationSettings,
        shadows: Shadows,
        reports: Reports,
        metrics: ExplanationMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._patience_s = settings.patience_s
        self._shadows = shadows
        self._reports = reports
        self._metrics = metrics
        self._clock = clock
        self._longest_us = settings.piece_ms * 1000
        # Of its own for each subject: that one is slow does not make the pieces of others small.
        self._sizes: WeakKeyDictionary[Subject, PieceSize] = WeakKeyDictionary()
        self._slot = FairSlot(Turns(settings.max_asked_rows, clock))

    def entered(self, tenant: str, rows: int) -> AbstractContextManager[Entry]:
        """Around all work for rows of a tenant for somebody who waits; cancelled when nobody does. Raises Fault."""
        return self._slot.entered(tenant, rows)

    async def ask(self, subject: Subject, rows: Sequence[Row], entry: Entry) -> list[Explained]:
        """Explains rows that have entered. Raises Fault, ExplanationError."""
        found = [each for row in rows for each in await self._explain(subject, [row], entry)]
        self._metrics.asked.inc(len(found))
        return found

    @asynccontextmanager
    async def turn(self, entry: Entry) -> AsyncIterator[Turn]:
        """Around work that is no piece of an explanation, and takes turns with these."""
        turn = self._turn(entry)
        yield turn
        await self._rest(entry, [], turn)

    async def explain(self, subject: Subject, rows: Sequence[Row]) -> None:
        """Explains stored predictions, for which nobody waits, and reports them. Raises Fault, ExplanationError: none of them."""
        with self._slot.entered(_NOBODY, 0) as entry:
            for explained in await self._explain(subject, rows, entry):
                self._reports.add(explained)

    async def _explain(self, subject: Subject, rows: Sequence[Row], entry: Entry) -> list[Explained]:
        size = self._sizes.setdefault(subject, PieceSize(self._longest_us))
        for attempt in range(_TRIES):
            worked: list[float] = []
            turn, rest = partial(self._turn, entry), partial(self._rest, entry, worked)
            pacing = Pacing(turn, rest, size, self._clock)
            try:
                if subject.pixels is not None:
                    explained = [await explain_pixels(subject, subject.pixels, row, pacing) for row in rows]
                else:
                    explained = await explain(subject, rows, pacing)
            except Fault as fault:
                if fault.code not in _LATER or attempt == _TRIES - 1:
                    raise
                self._slot.release(entry)
                await asyncio.sleep(_PAUSE_S * 2**attempt)
                continue
            finally:
                counts = Counter(row.tenant for row in rows)
                for tenant, took in pacing.took.items():
                    self._reports.worked(tenant, subject.pipeline.name, took, counts[tenant])
            for _ in rows:
                self._metrics.seconds.observe(sum(worked) / len(rows))
            return explained
        raise AssertionError("the last attempt returns or raises")

    def _turn(self, entry: Entry) -> Turn:
        pace = self._shadows.pace
        return Turn(partial(self._gate, entry), pace.stage_began, pace.stage_ended, self._clock)

    async def _gate(self, entry: Entry) -> None:
        await self._slot.acquire(entry)
        await self._shadows.gate(entry.began + self._patience_s)

    async def _rest(self, entry: Entry, worked: list[float], turn: Turn) -> None:
        worked.append(turn.worked)
        now = self._clock()
        if entry.tenant == _NOBODY:
            # It rests alone.
            self._slot.release(entry)
            await asyncio.sleep(stored_rest(turn.worked, now - entry.began))
        else:
            paced, since_live_s = self._shadows.pace.rest(now, turn.worked), now - self._shadows.last_live
            await asyncio.sleep(asked_rest(paced, turn.worked, since_live_s))
            self._slot.release(entry)
