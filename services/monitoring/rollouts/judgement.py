"""What the evidence says of a rollout, for control, which acts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.analysis import SRM_ALARM, highest_weight
from headrace.releases.document import Release, Rollout
from headrace.releases.ladder import RolloutVerdict, canary_share
from services.monitoring.guards.guard import Finding, Objectives, Verdict
from services.monitoring.rollouts.evidence import Evidence

# Without any counts for so long, the rollout says that nothing arrives.
SILENT_S = 10.0
# Where fewer of the rows than that have events, the figures say so.
_SEEN = 0.9


@dataclass(frozen=True, slots=True)
class Judgement:
    """`verdict`: for control; `weight`: the highest that the evidence allows; `reason`: why, in a few words; `figures`: of all
    guards. `guards_say`: all guards in one. `ratio_e`, `units`: evidence against the sample ratio, and units that it is of.
    `suspicion`: guards that found something for which the rollout pauses; empty: none."""

    verdict: RolloutVerdict
    reason: str
    figures: str
    guards_say: Verdict
    guards: tuple[Finding, ...] = ()
    weight: float = 0.0
    ratio_e: float = 1.0
    units: int = 0
    suspicion: str = ""


def judge(release: Release, evidence: Evidence, objectives: Objectives) -> Judgement:
    """The judgement on a rollout that has begun."""
    rollout = release.rollout
    if rollout is None:
        raise ValueError(f"release {release.number} of {release.pipeline} has no rollout")
    guards = tuple(guard.finding() for guard in evidence.guards.values())
    ratio = evidence.sample_ratio
    figures = _figures(evidence, guards)
    found = [guard for guard in guards if guard.verdict == Verdict.HARM]
    harmful, doubtful = ([g.name for g in found if g.action == action] for action in ("go_back", "pause"))
    required = [guard for guard in guards if guard.required]
    unproven = [guard.name for guard in required if guard.verdict != Verdict.PROVEN_FINE]
    fine = Verdict.PROVEN_FINE if required and not unproven else Verdict.NOT_ENOUGH_DATA

    def judgement(verdict: RolloutVerdict, reason: str, weight: float = 0.0) -> Judgement:
        overall = Verdict.HARM if harmful or doubtful else fine
        suspicion = f"found by {', '.join(doubtful)}" if doubtful else ""
        return Judgement(verdict, reason, figures, overall, guards, weight, ratio.e, ratio.units, suspicion)

    if harmful:
        return judgement(RolloutVerdict.HARM, f"harm by {', '.join(harmful)}")
    if ratio.e >= SRM_ALARM:
        why = "the arms do not get the shares that the weights say, so they can't be compared"
        return judgement(RolloutVerdict.SAMPLE_RATIO_BROKEN, f"{why}; find out why before a new rollout")
    if evidence.heard is None or evidence.looked - evidence.heard > SILENT_S:
        return judgement(RolloutVerdict.NOT_KNOWN, "no counts arrive")
    if canary_share(release.assign.weights, rollout.arm) >= 1:
        if unproven:
            return judgement(RolloutVerdict.NOT_KNOWN, f"not yet proven fine: {', '.join(unproven)}")
        changes = "; ".join(guard.says for guard in guards if guard.name == "shift" and guard.says)
        reason = f"proven fine at full weight, {changes or 'how far answers changed is not known'}"
        return judgement(RolloutVerdict.PROVEN_FINE, reason, 1.0)
    weight, reason = min(
        (_allowed(rollout, evidence, objectives, guard) for guard in required), default=(1.0, "")
    )
    return judgement(RolloutVerdict.MAY_STEP_UP, reason, weight)


def _allowed(
    rollout: Rollout, evidence: Evidence, objectives: Objectives, guard: Finding
) -> tuple[float, str]:
    """The highest weight at which the worst that the evidence leaves possible is still acceptable, and what says so.

    Over all rows, the canary must not add more bad ones than the guard's absolute margin (at full weight that is the proof
    itself), nor use more than its share of the error budget in a stage. A proof by ratio lifts the first limit.
    """
    if not guard.canary.rows:
        return 0.0, f"{guard.name}: no data allows {0:.2%}"
    margin = highest_weight(guard.excess_allowed, guard.excess, 1.0)
    if guard.fine_by_ratio:
        margin = 1.0
    allowed, why = margin, f"an excess of at most {guard.excess:.2%}"
    if (left := objectives.budgets.get(guard.name)) is not None:
        rows = evidence.rows_per_s * rollout.stage_s
        budget = highest_weight(rollout.budget_share * left, guard.excess, rows)
        if budget < margin:
            allowed, why = budget, f"the error budget (left: {left:.0f} rows)"
    return allowed, f"{guard.name}: {why} allows {allowed:.2%}"


def _figures(evidence: Evidence, guards: tuple[Finding, ...]) -> str:
    """What was looked at, guard by guard, and what can't be known, for each reason once."""
    ratio = evidence.sample_ratio
    parts = [guard.sentence for guard in guards if guard.verdict != Verdict.NOT_KNOWN]
    unknown = [f"{guard.name} ({guard.unknown})" for guard in guards if guard.unknown]
    if not evidence.seen:
        parts.append("answers were not seen: no events of predictions arrive")
    elif evidence.seen < _SEEN * evidence.rows:
        parts.append(f"answers of {evidence.seen} of {evidence.rows} rows were seen")
    if unknown:
        parts.append(f"not known: {', '.join(unknown)}")
    if ratio.units:
        parts.append(f"sample ratio: evidence {ratio.e:.3g} of {SRM_ALARM:g} from {ratio.units}")
    return ". ".join(parts)
