"""Concept drift: does a version err more often than it did? A test that may be looked at as often as one likes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.analysis import Count, lower_bound, upper_bound


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """`drifted`: the rate rose above the margin. `reference`: the rate's upper bound at first; `rate`: what the most telling
    period shows, of `rows` predictions."""

    drifted: bool
    reference: float
    rate: float
    rows: int


class ConceptDrift:
    """Of one version. Its first `reference_rows` judged predictions are what later ones are compared with.

    The reference's rate is below its anytime-valid upper bound at α/2. A drift may begin at any time, so a test begins anew with
    each `period_rows` predictions: the k-th has α/2 · 1/(k(k+1)), which add up to α/2, and alarms once its anytime-valid lower
    bound exceeds `margin` times the reference's upper bound. So P(ever a false alarm) ≤ α, however often one looks (Ville's
    inequality and the union bound; see `headrace.analysis.bounds`).

    Only the newest `_KEPT` tests go on. To end one is to look at it no more, which does not make a false alarm likelier.
    """

    _KEPT = 24

    def __init__(
        self,
        reference_rows: int = 1000,
        period_rows: int = 500,
        margin: float = 1.1,
        alpha: float = 1e-3,
    ) -> None:
        self._reference_rows = reference_rows
        self._period_rows = period_rows
        self._margin = margin
        self._alpha = alpha
        self._begin()

    def _begin(self) -> None:
        self._reference = Count(0, 0)
        # (number of the test, cumulative counts when it began)
        self._begun: list[tuple[int, Count]] = []
        self._total = Count(0, 0)

    def observe(self, total: Count) -> ErrorRate:
        """Takes the version's cumulative counts of judged predictions, and of those that were wrong.

        Counts that fell (another process counts anew) begin everything anew.
        """
        if total.rows < self._total.rows or total.bad < self._total.bad:
            self._begin()
        self._total = total
        if self._reference.rows < self._reference_rows:
            if total.rows < self._reference_rows:
                return ErrorRate(False, 1.0, total.bad / total.rows if total.rows else 0.0, total.rows)
            self._reference = total
            self._begun = [(1, total)]
            return ErrorRate(False, self._bound, total.bad / total.rows, 0)
        verdict = self._judged()
        last_number, last = self._begun[-1]
        if total.rows - last.rows >= self._period_rows:
            self._begun = [*self._begun, (last_number + 1, total)][-self._KEPT :]
        return verdict

    @property
    def _bound(self) -> float:
        return upper_bound(self._reference, self._alpha / 2)

    def _judged(self) -> ErrorRate:
        limit = min(self._bound * self._margin, 1.0)
        # Until a test has rows, what is known is all rows together.
        best: tuple[float, float, int] = (-1.0, self._total.bad / self._total.rows, 0)
        for number, start in self._begun:
            count = Count(self._total.rows - start.rows, self._total.bad - start.bad)
            if count.rows:
                low = lower_bound(count, self._alpha / 2 / (number * (number + 1)))
                best = max(best, (low, count.bad / count.rows, count.rows))
        return ErrorRate(best[0] > limit, self._bound, best[1], best[2])

    def to_json(self) -> dict[str, Any]:
        """Its state as plain values."""
        begun = [[number, *count] for number, count in self._begun]
        return {"reference": list(self._reference), "begun": begun, "total": list(self._total)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a state. Raises ValueError, KeyError or TypeError if it is none."""
        reference, total = Count(*map(int, state["reference"])), Count(*map(int, state["total"]))
        self._begun = [(int(n), Count(int(rows), int(bad))) for n, rows, bad in state["begun"]]
        self._reference, self._total = reference, total
