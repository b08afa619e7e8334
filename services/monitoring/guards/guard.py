"""What a guard is: it takes what both arms did, and says what it found, what it looked at, and what it can't know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from headrace.analysis import Count
from headrace.pipeline.guards import GuardAction, Margins
from services.monitoring.guards.answers import Answers, Ends
from services.monitoring.rollouts.counts import ArmCounts

NO_COUNT = Count(0, 0)


class Verdict(StrEnum):
    """What a guard says, or all of them together."""

    HARM = "harm"
    PROVEN_FINE = "proven fine"
    NOTHING_FOUND = "nothing found"
    NOT_ENOUGH_DATA = "not enough data"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a guard is made with. `alpha`: of a finding though nothing changed; `fine_alpha`: of a false proof; `steps`: of the
    ladder; `arm`, `since`: the canary, and the release that began its rollout. `slow_s`: what is promised; `edges_s`: of the
    latency buckets. `by_rule`: rules send rows to arms as they like."""

    name: str
    action: GuardAction
    margins: Margins
    alpha: float
    fine_alpha: float
    steps: int
    deadline_s: float
    arm: str
    since: int
    required: bool = True
    slow_s: float | None = None
    edges_s: Sequence[float] = ()
    by_rule: bool = False


@dataclass(frozen=True, slots=True)
class Objectives:
    """What the pipeline promises. `slow_ms`: its latency objective; `budgets`: rows that may still be bad, by guard; `ranges`: of
    outputs, by their names or NAME[i]; `segments`: input column → the values that are watched one by one."""

    slow_ms: float | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)
    ranges: Mapping[str, Ends] = field(default_factory=dict)
    segments: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the ticks. `answers`: (release, arm) → counts since the last look. `drifted`: arm → what drifts there,
    in words, by what differs; absent: nothing is judged there. `expected`: arm → labelled predictions, right ones, and how many
    the model expects to be right; absent: it does not say, or nothing is labelled."""

    answers: Mapping[tuple[int, str], Answers] = field(default_factory=dict)
    drifted: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    expected: Mapping[str, tuple[int, int, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """`harm_e`, `fine_e`: evidence; `excess`: upper bound of the canary's rate minus the live one. `says`: what it looked at, in
    all figures; `unknown`: what it can't know, and why. `required`: whether a promotion waits for it."""

    name: str
    verdict: Verdict
    action: GuardAction
    says: str
    live: Count = NO_COUNT
    canary: Count = NO_COUNT
    harm_e: float = 0.0
    harm_threshold: float = 1.0
    fine_e: float = 0.0
    fine_threshold: float = 1.0
    excess: float = 0.0
    excess_allowed: float = 0.0
    slow_over_s: float | None = None
    unknown: str = ""
    required: bool = False
    fine_by_ratio: bool = False

    @property
    def sentence(self) -> str:
        """For people."""
        over = f" over {self.slow_over_s * 1000:g} ms" if self.slow_over_s else ""
        return f"{self.name}{over}: {self.says}{': ' if self.says else ''}{self.verdict}"


@dataclass(frozen=True, slots=True)
class Increment:
    """What both arms did in a tick while the canary had this share. `drawn`: of units that chance divided, or the best there is
    of them: others are only of use for what is counted nowhere else."""

    share: float
    live: ArmCounts
    canary: ArmCounts
    drawn: bool = True


class Guard:
    """One file in `kinds/` with a `make` each; it takes what it needs of what comes."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def begin_step(self) -> None:
        """A weight begins: what is bad from now on shall be found soon."""

    def pass_time(self, share: float) -> None:
        """A share of the time until the deadline passes."""

    def before(self, live: ArmCounts) -> None:
        """What a process had counted of the live arm before the rollout began, cumulative."""

    def tick(self, more: Increment) -> None:
        """What ticks and outcomes counted."""

    def answered(self, share: float, live: Answers, canary: Answers) -> None:
        """What was answered while the canary had this share."""

    def learn(self, facts: Facts) -> None:
        """What is known beside it."""

    def end_round(self) -> None:
        """What came since the last call is all that there is now."""

    def finding(self) -> Finding:
        """What it says now. Each guard has its own."""
        raise NotImplementedError


def number(log_e: float) -> float:
    """The evidence of a logarithm."""
    return math.exp(min(log_e, 700.0))
