"""What a comparison of arms counts of one arm: the units that chance divided, each once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headrace.ticks import LATENCY_BUCKETS, AssignedFigures, latency_bucket


class UnitCounter:
    """Cumulative. Not for several threads."""

    __slots__ = ("_answers", "_bad_requests", "_keys", "_requests")

    def __init__(self) -> None:
        self._requests = self._bad_requests = 0
        self._keys = AssignedFigures()
        self._answers: list[int] = []

    def answer(self, seconds: float) -> None:
        """One answer to rows that were drawn."""
        if not self._answers:
            self._answers = [0] * LATENCY_BUCKETS
        self._answers[latency_bucket(seconds)] += 1

    def requests(self, ids: Sequence[str], bad: Collection[int]) -> None:
        """`ids`: the request of each row; `bad`: positions of rows that failed by a fault of ours. A request is drawn as a
        whole, so its rows are one unit."""
        self._requests += len(set(ids))
        if bad:
            self._bad_requests += len({ids[row] for row in bad})

    def keys(self, more: AssignedFigures) -> None:
        """What `sticky_keys.KeySet` found."""
        self._keys = self._keys.plus(more)

    def figures(self) -> AssignedFigures:
        """All counts."""
        own = AssignedFigures(self._requests, self._bad_requests, answers=tuple(self._answers))
        return own.plus(self._keys)
