"""Whether the canary is worse, or another, for one segment that the document declares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from headrace.analysis import HARM_EFFECTS, SHIFT_EFFECTS, Count, RateRatio, benjamini_hochberg
from services.monitoring.guards.answers import BINS, ELEMENTS, SEGMENTS, Answers, Plan
from services.monitoring.guards.guard import Finding, Guard, Setting, Verdict, number, would_show

_BINS = ELEMENTS * BINS
_SHOWN = 3


class Segments(Guard):
    """Errors, slow batches and the bins of values of each segment; its evidence is the mean of the three, and e-BH says which
    segments are to be believed. `first`, `most`: which of the plan's segments it looks at."""

    first, most, what = 0, SEGMENTS, "no segments are declared"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._failed = RateRatio(0.0, HARM_EFFECTS, self.most)
        self._slow = RateRatio(1.0, HARM_EFFECTS, self.most)
        self._values = RateRatio(setting.margins.harm, SHIFT_EFFECTS, self.most * _BINS)
        self._plan: Plan | None = None
        self._rows = np.zeros((2, self.most), np.int64)
        self._share = 0.0

    @property
    def _tests(self) -> dict[str, RateRatio]:
        return {"errors": self._failed, "latency": self._slow, "answers": self._values}

    def begin_step(self) -> None:
        """See Guard."""
        for test in self._tests.values():
            test.start(0.5 / self.setting.steps)

    def pass_time(self, share: float) -> None:
        """See Guard."""
        for test in self._tests.values():
            test.start(0.5 * share)

    def answered(self, share: float, live: Answers, canary: Answers) -> None:
        """See Guard."""
        plan = canary.plan or live.plan
        if plan is None:
            return
        self._plan, self._share = plan, share
        mine = slice(1 + self.first, 1 + self.first + self.most)
        for test, counts in ((self._failed, "failed"), (self._slow, "slow")):
            a, b = getattr(live, counts)[mine], getattr(canary, counts)[mine]
            test.observe_each(a[:, 0], a[:, 1], b[:, 0], b[:, 1])
        bad = np.stack([live.values[mine], canary.values[mine]])
        rows = np.repeat(bad.sum(axis=3, keepdims=True), BINS, axis=3).reshape(2, -1)
        self._values.observe_each(rows[0], bad[0].ravel(), rows[1], bad[1].ravel())
        self._rows += np.stack([live.failed[mine, 0], canary.failed[mine, 0]])

    def finding(self) -> Finding:
        """See Guard."""
        setting, plan = self.setting, self._plan
        names = [] if plan is None else plan.segments[self.first : self.first + self.most]
        named = [i for i, name in enumerate(names) if name]
        if plan is None or not named or not self._rows[1].any():
            unknown = self.what if plan is None or not named else "no answer of the canary was seen"
            return Finding(setting.name, Verdict.NOT_KNOWN, setting.action, "", unknown=unknown)
        weights = plan.log_weights
        places = (slice(i * _BINS, i * _BINS + len(weights)) for i in named)
        of_values = [np.logaddexp.reduce(self._values.log_es(place) + weights) for place in places]
        parts = np.stack([self._failed.log_es(named), self._slow.log_es(named), of_values])
        log_es = np.logaddexp.reduce(parts, axis=0) - math.log(len(parts))
        believed = benjamini_hochberg(log_es, setting.alpha)
        texts = [
            f"{names[named[i]]} ({list(self._tests)[int(np.argmax(parts[:, i]))]})" for i in believed.tolist()
        ]
        log_needed = math.log(len(named) * len(parts) / setting.alpha) + plan.log_bins
        says = (
            f"{', '.join(texts[:_SHOWN]) or 'none'} of {len(named)} differ"
            f"{would_show(setting.margins.harm, self._share, log_needed)}"
        )
        live, canary = (Count(int(n), 0) for n in self._rows.max(axis=1))
        return Finding(
            setting.name,
            Verdict.HARM if texts else Verdict.NOTHING_FOUND,
            "tell" if setting.by_rule else setting.action,
            says,
            live,
            canary,
            number(float(log_es.max())),
            len(named) / setting.alpha,
        )

    def to_json(self) -> Any:
        """See Guard."""
        return {name: test.to_json() for name, test in self._tests.items()}

    def restore(self, values: Any) -> None:
        """See Guard."""
        for name, test in self._tests.items():
            test.restore(values[name])


make = Segments
