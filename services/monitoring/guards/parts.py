"""Guards that compare the answers of parts of the rows, by the bins that their values fall into."""

from __future__ import annotations

import math

import numpy as np

from headrace.analysis import (
    HARM_EFFECTS,
    SHIFT_EFFECTS,
    Count,
    RateRatio,
    benjamini_hochberg,
    rows_needed,
)
from services.monitoring.guards.answers import BINS, ELEMENTS, Answers, Plan
from services.monitoring.guards.guard import Finding, Guard, Setting, Verdict, number

_BINS = ELEMENTS * BINS
_SHOWN = 3


class PartsGuard(Guard):
    """Each bin of each value is a rate of its own; evidence is the mean over all bins that the canary's rate exceeds
    (1 + `harm_margin`) × the live arm's. `parts`: which of the plan's; `beside`: what else is compared in each, its evidence
    being the mean then. e-BH says which parts are to be believed. `missing`: why there may be none."""

    parts = slice(0, 1)
    beside: tuple[str, ...] = ()
    missing = "no value of an answer was compared"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._most = self.parts.stop - self.parts.start
        self._values = RateRatio(setting.margins.harm, SHIFT_EFFECTS, self._most * _BINS)
        # A batch that is slow is so for its reasons; twice as many are no chance.
        self._beside = {
            name: RateRatio(float(name == "slow"), HARM_EFFECTS, self._most) for name in self.beside
        }
        self._plan: Plan | None = None
        self._rows = np.zeros((2, self._most), np.int64)
        self._share = 0.0

    @property
    def _tests(self) -> dict[str, RateRatio]:
        return {**self._beside, "answers": self._values}

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
        for name, test in self._beside.items():
            a, b = (getattr(of, name)[self.parts] for of in (live, canary))
            test.observe_each(a[:, 0], a[:, 1], b[:, 0], b[:, 1])
        bad = np.stack([live.values[self.parts], canary.values[self.parts]])
        rows = np.repeat(bad.sum(axis=3, keepdims=True), BINS, axis=3).reshape(2, -1)
        self._values.observe_each(rows[0], bad[0].ravel(), rows[1], bad[1].ravel())
        self._rows += np.stack([of.failed[self.parts, 0] for of in (live, canary)])

    def finding(self) -> Finding:
        """See Guard."""
        setting, plan = self.setting, self._plan
        names = () if plan is None else plan.parts[self.parts]
        named = [i for i, name in enumerate(names) if name]
        if plan is None or not named or not self._rows[1].any():
            return Finding(setting.name, Verdict.NOT_KNOWN, setting.action, "", unknown=self.missing)
        weights = plan.log_weights
        places = (slice(i * _BINS, i * _BINS + len(weights)) for i in named)
        of_values = [np.logaddexp.reduce(self._values.log_es(place) + weights) for place in places]
        of_tests = np.stack([*(test.log_es(named) for test in self._beside.values()), of_values])
        log_es = np.logaddexp.reduce(of_tests, axis=0) - math.log(len(of_tests))
        believed = benjamini_hochberg(log_es, setting.alpha).tolist()
        whats = [list(self._tests)[int(np.argmax(of_tests[:, i]))] for i in believed]
        differ = [f"{names[named[i]]} ({what})" for i, what in zip(believed, whats, strict=True)]
        live, canary = (Count(int(n), 0) for n in self._rows.max(axis=1))
        log_needed = math.log(len(named) * len(of_tests) / setting.alpha) + plan.log_bins
        return Finding(
            setting.name,
            Verdict.HARM if differ else Verdict.NOTHING_FOUND,
            "tell" if setting.by_rule else setting.action,
            (self.summary() or f"{', '.join(differ[:_SHOWN]) or 'none'} of {len(named)} differ")
            + self._needs(log_needed),
            live,
            canary,
            number(float(log_es.max())),
            len(named) / setting.alpha,
            unknown=self._unseen(plan),
        )

    def summary(self) -> str:
        """What it found; empty: which parts differ is enough."""
        return ""

    def _unseen(self, plan: Plan) -> str:
        found = [f"{name} is not in events" for name in plan.unseen]
        return "; ".join([*found, "which rows a rule sent"] if self.setting.by_rule else found)

    def _needs(self, log_threshold: float) -> str:
        """After how many units an answer that becomes three times as frequent is found, at the present weight."""
        if not 0 < self._share < 1:
            return ""
        margin = self.setting.margins.harm
        needed = rows_needed(margin, (0.1, 0.3), self._share, log_threshold, SHIFT_EFFECTS)
        return f"; a tenth that becomes three would show in {needed:.0f}"
