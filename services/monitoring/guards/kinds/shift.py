"""Whether the answers themselves are others: by how much the share of a range of values rose, not only how surely."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from headrace.analysis import SHIFT_EFFECTS, Count, RateRatio
from headrace.drift.stability import stability
from services.monitoring.guards.answers import BINS, ELEMENTS, Answers, Plan
from services.monitoring.guards.guard import Finding, Guard, Setting, Verdict, number, would_show


class Shift(Guard):
    """Each bin of each value (deciles of the live arm's first answers, or the single values) is a rate of its own; evidence is
    the mean over all bins that the canary's rate exceeds (1 + `harm_margin`) × the live arm's.

    With the usual margin of a half, half a standard deviation (a PSI of about 0.25) is found, a fifth (0.04) is not.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._test = RateRatio(setting.margins.harm, SHIFT_EFFECTS, ELEMENTS * BINS)
        self._counts = np.zeros((2, ELEMENTS, BINS), np.int64)
        self._plan: Plan | None = None
        self._share = 0.0

    def begin_step(self) -> None:
        """See Guard."""
        self._test.start(0.5 / self.setting.steps)

    def pass_time(self, share: float) -> None:
        """See Guard."""
        self._test.start(0.5 * share)

    def answered(self, share: float, live: Answers, canary: Answers) -> None:
        """See Guard."""
        plan = canary.plan or live.plan
        if plan is None:
            return
        if plan is not self._plan:
            # Other bins: evidence stays evidence, but their counts are no continuation.
            self._plan, self._counts[:] = plan, 0
        found = np.stack([live.values[0], canary.values[0]])
        self._counts += found
        self._share = share
        rows = np.repeat(found.sum(axis=2, keepdims=True), BINS, axis=2).reshape(2, -1)
        bad = found.reshape(2, -1)
        self._test.observe_each(rows[0], bad[0], rows[1], bad[1])

    def finding(self) -> Finding:
        """See Guard."""
        setting, plan, threshold = self.setting, self._plan, 1 / self.setting.alpha
        log_e = 0.0
        if plan is not None and plan.elements:
            weights = plan.log_weights
            log_e = float(np.logaddexp.reduce(self._test.log_es(slice(len(weights))) + weights))
        rows = self._counts.sum(axis=2).max(axis=1).tolist()
        unknown = ""
        if plan is None or not plan.elements or not rows[1]:
            unknown = "no value of an answer was compared"
        elif plan.unseen:
            unknown = f"{', '.join(plan.unseen)} are not in events"
        elif setting.by_rule:
            unknown = "rows that a rule sent are among them"
        verdict = Verdict.NOT_KNOWN if plan is None or not rows[1] else Verdict.NOTHING_FOUND
        if log_e >= math.log(threshold):
            verdict = Verdict.HARM
        action = "tell" if setting.by_rule else setting.action
        says = self._says(plan, threshold) if plan is not None and all(rows) and plan.elements else ""
        live, canary = (Count(n, 0) for n in rows)
        return Finding(
            setting.name, verdict, action, says, live, canary, number(log_e), threshold, unknown=unknown
        )

    def _says(self, plan: Plan, threshold: float) -> str:
        changes = [stability(*(c[i].tolist() for c in self._counts)) for i in range(len(plan.elements))]
        most = int(np.argmax(changes))
        return (
            f"answers changed by a PSI of {changes[most]:.3f} ({plan.element(most)}, the most of {len(changes)}) in "
            f"{self._counts[1].sum(axis=1).max()} of the canary"
            f"{would_show(self.setting.margins.harm, self._share, math.log(threshold) + plan.log_bins)}"
        )

    def to_json(self) -> Any:
        """See Guard."""
        return self._test.to_json()

    def restore(self, values: Any) -> None:
        """See Guard."""
        self._test.restore(values)


make = Shift
