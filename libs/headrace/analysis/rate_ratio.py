"""Is the canary's rate of bad rows higher (or surely not higher) than the live arm's? An e-process on counts of both arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Factors of the canary's rate over the highest that the hypothesis allows. The true one is unknown, so evidence is the mean over
# them.
HARM_EFFECTS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
# For a share of the answers, which can't rise so far.
SHIFT_EFFECTS = (1.3, 2.0, 4.0)
FINE_EFFECTS = (1 / 1.1, 1 / 1.25, 1 / 1.5, 1 / 2, 1 / 3)
Counts: TypeAlias = NDArray[np.int64] | NDArray[np.float64]


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

    def __init__(self, margin: float, effects: Sequence[float], tests: int = 1) -> None:
        """`margin`: δ ≥ 0. `effects`: all above 1, or all below. `tests`: so many side by side, each with rates of its own."""
        self._margin = margin
        self._effects = np.array(effects)
        self._logs = np.log(self._effects)
        self.log_sums = np.full((tests, len(effects)), -np.inf)
        self.unspent = 1.0

    def start(self, share: float) -> None:
        """Begins the tests anew with `share` of the weight, or with what is left of it."""
        share = min(share, self.unspent)
        if share <= 0:
            return
        self.unspent -= share
        self.log_sums = np.logaddexp(self.log_sums, math.log(share))

    def observe(self, live: Count, canary: Count) -> None:
        """Takes the counts of a tick, the same for each test."""
        if live.bad or canary.bad:
            self.observe_each(*(np.array([n]) for n in (*live, *canary)))

    def observe_each(self, live: Counts, live_bad: Counts, canary: Counts, canary_bad: Counts) -> None:
        """Takes the counts of a tick for each test: rows and bad ones of both arms, float or int (tests,)."""
        found = np.flatnonzero(live_bad + canary_bad)
        if not len(found):
            return
        x_live, x_canary = live_bad[found, None], canary_bad[found, None]
        weighted = canary[found, None] * (1 + self._margin)
        q = weighted / (live[found, None] + weighted)
        self.log_sums[found] += x_canary * self._logs - (x_live + x_canary) * np.log1p(
            q * (self._effects - 1)
        )

    def log_es(self, tests: slice | Sequence[int] = slice(None)) -> NDArray[np.float64]:
        """Natural logarithm of the E of each of these tests, (tests,)."""
        means = np.logaddexp.reduce(self.log_sums[tests], axis=1) - math.log(len(self._logs))
        left: NDArray[np.float64] = np.logaddexp(
            means, math.log(self.unspent) if self.unspent > 0 else -math.inf
        )
        return left

    @property
    def log_e(self) -> float:
        """That of the mean over all tests, which is evidence against "none of them"."""
        return log_mean(self.log_es())


def log_mean(logs: NDArray[np.float64] | Sequence[float]) -> float:
    """log of the mean of the e^x."""
    return float(np.logaddexp.reduce(np.asarray(logs, float)) - math.log(len(logs)))


def benjamini_hochberg(log_es: NDArray[np.float64], alpha: float) -> NDArray[np.intp]:
    """The tests to be believed, by e-BH: of all that are, at most `alpha` are false on average, whatever they have to do with
    one another (Wang & Ramdas 2022). Their positions, the strongest first."""
    order = np.argsort(-log_es)
    needed = math.log(len(log_es) / alpha) - np.log(np.arange(1, len(log_es) + 1))
    enough = np.flatnonzero(log_es[order] >= needed)
    return order[: enough[-1] + 1] if len(enough) else order[:0]


def rows_needed(
    margin: float,
    rates: tuple[float, float],
    share: float,
    log_threshold: float,
    effects: Sequence[float] = HARM_EFFECTS,
) -> float:
    """Rows of the canary after which evidence for harm is expected, if `rates` are those of the live arm and of the canary, which
    gets `share` of the rows; infinity: it never is.

    Each row adds p_c·ln f − (p_b/s' + p_c)·ln(1 + q(f − 1)) on average, s' being canary rows to a live one; the best effect
    counts, and its weight in the mixture must be made up for.
    """
    live, canary = rates
    weighted = share * (1 + margin)
    q = weighted / (1 - share + weighted)
    bad = live * (1 - share) / share + canary
    growth = max(canary * math.log(f) - bad * math.log1p(q * (f - 1)) for f in effects)
    return (log_threshold + math.log(len(effects))) / growth if growth > 0 else math.inf
