"""What a comparison of arms counts of one arm: the units that chance divided, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headrace.ticks import LATENCY_BUCKETS, AssignedFigures, latency_bucket


class UnitCounter:
    """Cumulative. Not for several threads."""

    __slots__ = ("_answers", "_bad_requests", "_fresh_bad", "_fresh_rows", "_new_keys", "_requests")

    def __init__(self) -> None:
        self._requests = self._bad_requests = 0
        self._new_keys = self._fresh_rows = self._fresh_bad = 0
        self._answers: list[int] = []

    def answer(self, seconds: float) -> None:
        """An answer to rows of which at least one was drawn."""
        if not self._answers:
            self._answers = [0] * LATENCY_BUCKETS
        self._answers[latency_bucket(seconds)] += 1

    def requests(self, ids: Sequence[str], bad: Iterable[int]) -> None:
        """`ids`: the request of each row; `bad`: positions of rows that failed by a fault of ours. A request is drawn as a
        whole, so its rows are one unit."""
        self._requests += len(set(ids))
        self._bad_requests += len({ids[row] for row in bad})

    def keys(self, new: int, fresh_rows: int, fresh_bad: int) -> None:
        """See `first_failures.FirstFailures`."""
        self._new_keys += new
        self._fresh_rows += fresh_rows
        self._fresh_bad += fresh_bad

    def figures(self) -> AssignedFigures:
        """All counts."""
        return AssignedFigures(
            self._requests,
            self._bad_requests,
            self._new_keys,
            self._fresh_rows,
            self._fresh_bad,
            tuple(self._answers),
        )
