"""Is the canary's rate of bad rows higher (or surely not higher) than the live arm's? An e-process on counts of both arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

# Factors of the canary's rate over the highest that the hypothesis allows. The true one is unknown, so evidence is the mean over
# them.
HARM_EFFECTS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
FINE_EFFECTS = (1 / 1.1, 1 / 1.25, 1 / 1.5, 1 / 2, 1 / 3)
_LOG_ZERO = -math.inf


class Count(NamedTuple):
    """Rows (or other units) of one arm, and how many of them were bad."""

    rows: int
    bad: int


class RateRatio:
    """Evidence that the canary's rate p_c and the live arm's p_b differ from p_c = (1+δ)·p_b in the direction of `effects`.

    Per tick with n_b, n_c rows and x_b, x_c bad ones, m = x_b + x_c and q = n_c(1+δ) / (n_b + n_c(1+δ)), for each effect f:

        S_f ← S_f · f^x_c / (1 + q(f − 1))^m            E = mean over f of S_f, plus the weight that is not yet spent

    Effects above 1 test "p_c ≤ (1+δ)p_b" (E large: harm), those below 1 test "p_c ≥ (1+δ)p_b" (E large: not worse than the
    margin). Under the hypothesis E is a supermartingale that begins with 1, so P(E ever ≥ 1/α) ≤ α, whatever the looks.
    Rates may change from tick to tick, and q is that of the tick: a change of weight or load needs no reset.

    After Lindon & Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022) and Waudby-Smith et al. With rows of
    units that are at risk of their first failure it is the safe log-rank test (ter Schure et al. 2020).

    Evidence against a canary that breaks late would first have to make up for all that spoke for it. So the test is begun anew
    by `start` with a share of the weight: E is a mixture over starting times (as Shiryaev–Roberts; Shin, Ramdas & Rinaldo,
    "E-detectors", 2023). The shares must add up to at most 1 and must not depend on rows after the start.
    """

    def __init__(self, margin: float, effects: Sequence[float]) -> None:
        """`margin`: δ ≥ 0. `effects`: all above 1, or all below."""
        self._margin = margin
        self._effects = tuple(effects)
        self._logs = tuple(math.log(f) for f in effects)
        self.log_sums = [_LOG_ZERO] * len(self._effects)
        self.unspent = 1.0

    def start(self, share: float) -> None:
        """Begins the test anew with `share` of the weight, or with what is left of it."""
        share = min(share, self.unspent)
        if share <= 0:
            return
        self.unspent -= share
        log_share = math.log(share)
        self.log_sums = [_log_add(log_sum, log_share) for log_sum in self.log_sums]

    def observe(self, live: Count, canary: Count) -> None:
        """Takes the counts of a tick."""
        bad = live.bad + canary.bad
        if not bad:
            return
        weighted = canary.rows * (1 + self._margin)
        q = weighted / (live.rows + weighted)
        self.log_sums = [
            log_sum + canary.bad * log_f - bad * math.log1p(q * (f - 1))
            for log_sum, f, log_f in zip(self.log_sums, self._effects, self._logs, strict=True)
        ]

    @property
    def log_e(self) -> float:
        """Natural logarithm of E."""
        highest = max(self.log_sums)
        if highest == _LOG_ZERO:
            return math.log(self.unspent) if self.unspent > 0 else _LOG_ZERO
        mean = highest + math.log(
            math.fsum(math.exp(s - highest) for s in self.log_sums) / len(self.log_sums)
        )
        return _log_add(mean, math.log(self.unspent)) if self.unspent > 0 else mean

    def to_json(self) -> dict[str, object]:
        """Its state as plain values."""
        sums = [None if s == _LOG_ZERO else s for s in self.log_sums]
        return {"log_sums": sums, "unspent": self.unspent}

    def restore(self, state: dict[str, object]) -> None:
        """Continues from a state of a test with as many effects. Raises ValueError or KeyError if it is none."""
        sums, unspent = state["log_sums"], state["unspent"]
        if (
            not isinstance(sums, list)
            or len(sums) != len(self._effects)
            or not isinstance(unspent, int | float)
        ):
            raise ValueError("no state of this test")
        self.log_sums = [_LOG_ZERO if s is None else float(s) for s in sums]
        self.unspent = float(unspent)


def _log_add(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    if a < b:
        a, b = b, a
    return a if b == _LOG_ZERO else a + math.log1p(math.exp(b - a))
