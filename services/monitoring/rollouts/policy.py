"""What a rollout does next. Pure: a release, its evidence and the time give a decision; `changes.py` makes a release of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from headrace.analysis import SRM_ALARM, highest_weight
from headrace.releases.document import GuardName, Release, Rollout, RolloutState
from services.monitoring.rollouts.evidence import Evidence, Objectives, canary_share
from services.monitoring.rollouts.verdicts import GuardVerdict, Verdict, guard_verdicts

# Without any counts for so long, the rollout says that nothing arrives.
SILENT_S = 10.0


class Action(StrEnum):
    """What to do with the release."""

    HOLD = "hold"
    START = "start"
    STEP = "step up"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Decision:
    """`step`, `weight`: where in the ladder the rollout is afterwards. `reason`: why, with the figures of guards; `why`: without.

    `ratio_e`, `units`: evidence against the sample ratio, and units that it is of. `ends`: the deadline (seconds since 1970).
    """

    action: Action
    verdict: Verdict
    step: int
    weight: float
    reason: str
    guards: tuple[GuardVerdict, ...] = ()
    why: str = ""
    ratio_e: float = 1.0
    units: int = 0
    ends: float | None = None


def begin(release: Release) -> Decision | None:
    """The first decision on a rollout that has not begun; None: it has, or must not begin.

    The release that comes of it has the weight of the first step and marks itself as where evidence begins.
    """
    rollout = release.rollout
    if rollout is None or rollout.state != RolloutState.RUNNING or rollout.since or release.frozen:
        return None
    weight = rollout.ladder[rollout.step]
    reason = f"the rollout of {rollout.arm} begins at {weight:.2%}"
    return Decision(Action.START, Verdict.NOT_ENOUGH_DATA, rollout.step, weight, reason, why=reason)


def decide(
    release: Release, evidence: Evidence, objectives: Objectives, now: float, *, frozen: bool = False
) -> Decision:
    """The next decision on a rollout that has begun. `now`: seconds since 1970. `frozen`: whether all automation is stopped."""
    rollout = release.rollout
    if rollout is None:
        raise ValueError(f"release {release.number} of {release.pipeline} has no rollout")
    guards = guard_verdicts(evidence)
    worst = _overall(rollout, guards)
    weight = canary_share(release.assign.weights, rollout.arm)
    ends = _began(rollout, evidence) + rollout.deadline_s

    def decision(action: Action, why: str, step: int = rollout.step, at: float = weight) -> Decision:
        ratio, reason = evidence.sample_ratio, _reason(why, evidence, guards)
        return Decision(action, worst, step, at, reason, guards, why, ratio.e, ratio.units, ends)

    if frozen or release.frozen:
        return decision(Action.HOLD, "frozen: nothing changes by itself")
    if rollout.state != RolloutState.RUNNING:
        return decision(Action.HOLD, f"{rollout.state}: nothing changes by itself")
    if worst == Verdict.HARM:
        named = ", ".join(guard.name for guard in guards if guard.verdict == Verdict.HARM)
        return decision(Action.ROLL_BACK, f"harm by {named} at {weight:.2%}", at=0.0)
    if evidence.sample_ratio.e >= SRM_ALARM:
        return decision(
            Action.PAUSE,
            "the arms do not get the shares that the weights say, so they can't be compared; find out why before a new rollout",
        )
    if (blocked := _blocked(rollout, evidence, objectives, guards, weight)) is None:
        if weight >= 1:
            return decision(Action.PROMOTE, "proven fine at full weight")
        step = min(rollout.step + 1, len(rollout.ladder) - 1)
        return decision(
            Action.STEP, f"from {weight:.2%} to {rollout.ladder[step]:.2%}", step, rollout.ladder[step]
        )
    if now >= ends:
        after = {"pause": Action.PAUSE, "promote": Action.PROMOTE, "roll_back": Action.ROLL_BACK}[
            rollout.otherwise
        ]
        return decision(
            after,
            f"not proven within {rollout.deadline_s:g} s ({blocked}), so by `otherwise`: {rollout.otherwise}",
            at=0.0 if after == Action.ROLL_BACK else weight,
        )
    return decision(Action.HOLD, blocked)


def _blocked(
    rollout: Rollout,
    evidence: Evidence,
    objectives: Objectives,
    guards: tuple[GuardVerdict, ...],
    weight: float,
) -> str | None:
    """Why the rollout may not go on yet; None: it may."""
    if evidence.heard is None or evidence.looked - evidence.heard > SILENT_S:
        return "no counts arrive"
    spent = evidence.looked - evidence.step_began
    if spent < rollout.stage_s:
        return f"{spent:.0f} of at least {rollout.stage_s:g} s at {weight:.2%}"
    if weight >= 1:
        unproven = [
            g.name for g in guards if rollout.guards[g.name].required and g.verdict != Verdict.PROVEN_FINE
        ]
        return f"not yet proven fine: {', '.join(unproven)}" if unproven else None
    step = min(rollout.step + 1, len(rollout.ladder) - 1)
    following = rollout.ladder[step]
    for guard in guards:
        allowed, why = _allowed(rollout, evidence, objectives, guard)
        if rollout.guards[guard.name].required and allowed < following:
            return f"{guard.name}: {why} allows {allowed:.2%}, the next step is {following:.2%}"
    return None


def _allowed(
    rollout: Rollout, evidence: Evidence, objectives: Objectives, guard: GuardVerdict
) -> tuple[float, str]:
    """The highest weight at which the worst that the evidence leaves possible is still acceptable, and what says so.

    Over all rows, the canary must not add more bad ones than the guard's absolute margin (at full weight that is the proof
    itself), nor use more than its share of the error budget in a stage. A proof by ratio lifts the first limit.
    """
    if not guard.canary.rows:
        return 0.0, "no data"
    margin = highest_weight(guard.excess_allowed, guard.excess, 1.0)
    if evidence.guards[guard.name].fine_by_ratio:
        margin = 1.0
    left = objectives.budgets.get(guard.name)
    if left is None:
        return margin, f"an excess of at most {guard.excess:.2%}"
    rows = evidence.rows_per_s * rollout.stage_s
    budget = highest_weight(rollout.budget_share * left, guard.excess, rows)
    if budget < margin:
        return budget, f"the error budget (left: {left:.0f} rows)"
    return margin, f"an excess of at most {guard.excess:.2%}"


def _overall(rollout: Rollout, guards: tuple[GuardVerdict, ...]) -> Verdict:
    found: Mapping[GuardName, Verdict] = {guard.name: guard.verdict for guard in guards}
    if Verdict.HARM in found.values():
        return Verdict.HARM
    required = [v for name, v in found.items() if rollout.guards[name].required]
    fine = required and all(v == Verdict.PROVEN_FINE for v in required)
    return Verdict.PROVEN_FINE if fine else Verdict.NOT_ENOUGH_DATA


def _began(rollout: Rollout, evidence: Evidence) -> float:
    return rollout.started.timestamp() if rollout.started else evidence.began


def _reason(why: str, evidence: Evidence, guards: tuple[GuardVerdict, ...]) -> str:
    ratio = evidence.sample_ratio
    parts = [why, *(guard.sentence for guard in guards)]
    if ratio.units:
        parts.append(f"sample ratio: evidence {ratio.e:.3g} of {SRM_ALARM:g} from {ratio.units}")
    return ". ".join(parts)
