"""Whether the canary is right as often as its model says, once outcomes come."""

from __future__ import annotations

import math

from headrace.analysis import Count, log_mean
from headrace.releases.spans import LIVE
from services.monitoring.guards.guard import Facts, Finding, Guard, Setting, Verdict, number

# How far off it may be beyond the margin: the exponent of each is the best for one.
_EXCESS = (0.02, 0.05, 0.1, 0.2, 0.4)


class Calibration(Guard):
    """Of n labelled predictions, S right ones are more than expected. If the model's probabilities are true to `harm_margin` (m),
    exp(λ(±S − mn) − λ²n/8) is a supermartingale for each λ (Hoeffding), and so is their mean."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        # Of the live arm and the canary: labelled, right, expected to be right.
        self._counts: list[tuple[int, int, float]] = [(0, 0, 0.0)] * 2

    def learn(self, facts: Facts) -> None:
        """See Guard."""
        for place, arm in enumerate((LIVE, self.setting.arm)):
            self._counts[place] = facts.expected.get(arm, self._counts[place])

    def finding(self) -> Finding:
        """Where the live arm is as far off, it is not the version."""
        setting, (rows, right, expected) = self.setting, self._counts[1]
        threshold, margin = 1 / setting.alpha, setting.margins.harm
        if not rows:
            unknown = "no outcomes, or no calibrated model"
            return Finding(setting.name, Verdict.NOT_KNOWN, setting.action, "", unknown=unknown)
        more = right - expected
        log_e = log_mean(
            [
                4 * by * (sign * more - margin * rows) - 2 * by * by * rows
                for by in _EXCESS
                for sign in (1, -1)
            ]
        )
        live_rows, live_right, live_expected = self._counts[0]
        live = abs(live_right - live_expected) / live_rows if live_rows else 0.0
        found = log_e >= math.log(threshold) and abs(more) / rows > live + margin
        says = f"right in {right / rows:.1%} of {rows}, expected {expected / rows:.1%}; the live arm is off by {live:.1%}"
        counts = Count(live_rows, live_rows - live_right), Count(rows, rows - right)
        verdict, unknown = (
            Verdict.HARM if found else Verdict.NOTHING_FOUND,
            "whether labelled rows are like the others",
        )
        return Finding(
            setting.name, verdict, setting.action, says, *counts, number(log_e), threshold, unknown=unknown
        )


make = Calibration
