"""Verdicts, and the sentences that explain them by their figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from headrace.analysis import Count
from headrace.releases.document import GuardName
from services.monitoring.rollouts.evidence import Evidence
from services.monitoring.rollouts.guard_evidence import GuardEvidence


class Verdict(StrEnum):
    """What the evidence says of a guard, or of a rollout."""

    HARM = "harm"
    PROVEN_FINE = "proven fine"
    NOT_ENOUGH_DATA = "not enough data"


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """The figures of one guard. `harm_e`, `fine_e`: evidence; `excess`: upper bound of the canary's rate minus the live one."""

    name: GuardName
    verdict: Verdict
    live: Count
    canary: Count
    harm_e: float
    harm_threshold: float
    fine_e: float
    fine_threshold: float
    excess: float
    excess_allowed: float
    slow_over_s: float | None = None

    @property
    def sentence(self) -> str:
        """For people, with all figures."""
        over = f" over {self.slow_over_s * 1000:g} ms" if self.slow_over_s else ""
        counts = f"{self.name}{over}: canary {_rate(self.canary)}, live {_rate(self.live)}"
        harm = f"evidence for harm {_number(self.harm_e)} of {_number(self.harm_threshold)}"
        fine = f"for fine {_number(self.fine_e)} of {_number(self.fine_threshold)}"
        excess = f"excess at most {self.excess:.2%} of allowed {self.excess_allowed:.2%}"
        return f"{counts}; {harm}, {fine}, {excess}: {self.verdict}"


def guard_verdicts(evidence: Evidence) -> tuple[GuardVerdict, ...]:
    """The verdict on each guard."""
    slow_over_s = evidence.slow_threshold.seconds
    return tuple(
        _verdict(name, guard, slow_over_s if name == "slow" else None)
        for name, guard in evidence.guards.items()
    )


def _verdict(name: GuardName, guard: GuardEvidence, slow_over_s: float | None) -> GuardVerdict:
    if guard.harmful:
        verdict = Verdict.HARM
    elif guard.canary.rows and guard.fine:
        verdict = Verdict.PROVEN_FINE
    else:
        verdict = Verdict.NOT_ENOUGH_DATA
    return GuardVerdict(
        name,
        verdict,
        guard.live,
        guard.canary,
        math.exp(min(guard.harm_log_e, 700.0)),
        guard.harm_threshold,
        math.exp(min(guard.fine_log_e, 700.0)),
        guard.fine_threshold,
        guard.excess,
        guard.margins.fine_absolute,
        slow_over_s,
    )


def _rate(count: Count) -> str:
    share = f" ({count.bad / count.rows:.3%})" if count.rows else ""
    return f"{count.bad} bad of {count.rows}{share}"


def _number(value: float) -> str:
    return f"{value:.3g}"
