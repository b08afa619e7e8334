"""A guard of one rate: both tests, the counts by weight, and the rows that it needs."""

from __future__ import annotations

import math
from typing import Any

from headrace.analysis import (
    FINE_EFFECTS,
    HARM_EFFECTS,
    Count,
    RateRatio,
    excess_upper_bound,
    lower_bound,
    rows_needed,
    upper_bound,
)
from services.monitoring.guards.guard import NO_COUNT, Finding, Guard, Setting, Verdict, number

# Weights with counts of their own; what comes at further ones is compared with a live rate of 0, which is the safe side.
MOST_STRATA = 12
# Of the harm test: the share of its weight that begins with each step of the ladder; the rest begins evenly until the deadline.
_AT_STEPS = 0.5
# Of α: the share of the comparison at full weight, where no live rows are left to compare with.
_AT_FULL_WEIGHT = 0.1
# Where so many live rows are bad that hardly a rate is (1 + fine_ratio) times as high, a ratio proves nothing.
_HIGHEST_RATE = 0.6
_RECENT = 0.5


class RateGuard(Guard):
    """Counts of one metric and what they prove. Which units it counts is what `tick` or `answered` give to `observe`."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.margins, self._alpha, self._fine_alpha = setting.margins, setting.alpha, setting.fine_alpha
        self._step_share = _AT_STEPS / max(setting.steps, 1)
        self._harm = RateRatio(self.margins.harm, HARM_EFFECTS)
        self._fine = RateRatio(self.margins.fine_ratio, FINE_EFFECTS)
        self._fine.start(1.0)
        # Share of the canary → (live, canary).
        self._strata: dict[float, tuple[Count, Count]] = {}
        self._excess: float | None = 1.0
        # Live rows and bad ones of the last ticks, the older the less.
        self._recent = (0.0, 0.0)

    def begin_step(self) -> None:
        """See Guard."""
        self._harm.start(self._step_share)

    def pass_time(self, share: float) -> None:
        """See Guard."""
        self._harm.start((1 - _AT_STEPS) * share)

    def observe(self, share: float, live: Count, canary: Count) -> None:
        """Takes increments that were counted while the canary had this share."""
        if not (live.rows or canary.rows):
            return
        self._harm.observe(live, canary)
        rows, bad = (_RECENT * a + b for a, b in zip(self._recent, live, strict=True))
        self._recent = rows, bad
        # To leave out ticks in which the live arm was bad is the safe side.
        if (1 + self.margins.fine_ratio) * bad <= _HIGHEST_RATE * rows or not live.rows:
            self._fine.observe(live, canary)
        if share not in self._strata and len(self._strata) == MOST_STRATA:
            live = NO_COUNT
            share = next(reversed(self._strata))
        before = self._strata.get(share, (NO_COUNT, NO_COUNT))
        self._strata[share] = _sum(before[0], live), _sum(before[1], canary)
        self._excess = None

    @property
    def live(self) -> Count:
        """All live rows."""
        return _total(live for live, _ in self._strata.values())

    @property
    def canary(self) -> Count:
        """All rows of the canary."""
        return _total(canary for _, canary in self._strata.values())

    @property
    def harm_log_e(self) -> float:
        """log of the evidence for harm; it is proven at `harm_threshold`."""
        return self._harm.log_e

    @property
    def harm_threshold(self) -> float:
        """1/α of the test that compares units of the same time."""
        return 1 / (self._alpha * (1 - _AT_FULL_WEIGHT))

    @property
    def fine_log_e(self) -> float:
        """log of the evidence that the canary's rate is below (1 + fine_ratio) × the live arm's."""
        return self._fine.log_e

    @property
    def fine_threshold(self) -> float:
        """1/α of the proof by ratio; the proof by excess has the other half of α."""
        return 2 / self._fine_alpha

    @property
    def excess(self) -> float:
        """Upper bound of the canary's rate minus the live arm's."""
        if self._excess is None:
            self._excess = excess_upper_bound(list(self._strata.values()), self._fine_alpha / 2, MOST_STRATA)
        return self._excess

    @property
    def harmful(self) -> bool:
        """Whether harm is proven: by rows of the same time, or at full weight by the rate that the live arm had before."""
        return self.harm_log_e >= math.log(self.harm_threshold) or self.too_high_at_full_weight

    @property
    def too_high_at_full_weight(self) -> bool:
        """Whether, at full weight, the canary's lower bound exceeds the live arm's upper bound by both margins."""
        _, canary = self._strata.get(1.0, (NO_COUNT, NO_COUNT))
        live = self.live
        if not canary.bad or not live.rows:
            return False
        alpha = self._alpha * _AT_FULL_WEIGHT / 2
        allowed = (1 + self.margins.harm) * upper_bound(live, alpha) + self.margins.fine_absolute
        return canary.bad / canary.rows > allowed and lower_bound(canary, alpha) > allowed

    @property
    def fine_by_ratio(self) -> bool:
        """Whether the rate is proven to be below (1 + fine_ratio) × the live arm's."""
        return self.fine_log_e >= math.log(self.fine_threshold)

    @property
    def fine(self) -> bool:
        """Whether the canary is proven to be no worse than allowed."""
        return self.fine_by_ratio or self.excess <= self.margins.fine_absolute

    @property
    def unknown(self) -> str:
        """What it can't know, though counts may come; empty: nothing."""
        return ""

    @property
    def slow_over_s(self) -> float | None:
        """Beyond which time a unit is bad; None: it is no matter of time, or not known yet."""
        return None

    def finding(self) -> Finding:
        """See Guard."""
        live, canary, unknown = self.live, self.canary, self.unknown
        if self.harmful:
            verdict = Verdict.HARM
        elif unknown:
            verdict = Verdict.NOT_KNOWN
        elif canary.rows and self.fine:
            verdict = Verdict.PROVEN_FINE
        else:
            verdict = Verdict.NOT_ENOUGH_DATA
        harm, fine = number(self.harm_log_e), number(self.fine_log_e)
        says = (
            f"canary {_rate(canary)}, live {_rate(live)}; "
            f"evidence for harm {harm:.3g} of {self.harm_threshold:.3g}, "
            f"for fine {fine:.3g} of {self.fine_threshold:.3g}, "
            f"excess at most {self.excess:.2%} of allowed {self.margins.fine_absolute:.2%}{self._needs()}"
        )
        return Finding(
            self.setting.name,
            verdict,
            self.setting.action,
            says,
            live,
            canary,
            harm,
            self.harm_threshold,
            fine,
            self.fine_threshold,
            self.excess,
            self.margins.fine_absolute,
            self.slow_over_s,
            unknown,
            self.setting.required and not unknown,
            self.fine_by_ratio,
        )

    def _needs(self) -> str:
        """How many units show the smallest excess that is not allowed, at the present weight."""
        share, live = next(reversed(self._strata), 0.0), self.live
        if not 0 < share < 1 or not live.rows:
            return ""
        rate = live.bad / live.rows
        worse = max(rate * (1 + self.margins.fine_ratio), rate + self.margins.fine_absolute)
        needed = rows_needed(self.margins.harm, (rate, min(worse, 1.0)), share, math.log(self.harm_threshold))
        return f", {worse:.2%} would show in {needed:.0f}" if needed < math.inf else ""


def _rate(count: Count) -> str:
    share = f" ({count.bad / count.rows:.3%})" if count.rows else ""
    return f"{count.bad} bad of {count.rows}{share}"


def _sum(one: Count, other: Count) -> Count:
    return Count(one.rows + other.rows, one.bad + other.bad)


def _total(counts: Any) -> Count:
    total = NO_COUNT
    for count in counts:
        total = _sum(total, count)
    return total
