"""What a rollout does next. Pure: its releases, a verdict and the time give a decision; `changes.py` makes a release of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from headrace.releases.document import Release, Rollout, RolloutState
from headrace.releases.ladder import Action, Report, RolloutVerdict, canary_share

AUTHOR = "ladder"
# After its deadline a rollout waits so long for a verdict, which says what was missing.
PATIENCE_S = 1.0
_OTHERWISE = {"pause": Action.PAUSE, "promote": Action.PROMOTE, "roll_back": Action.ROLL_BACK}


@dataclass(frozen=True, slots=True)
class Decision:
    """`step`, `weight`: where in the ladder the rollout is afterwards. `reason`: why, without the figures of the verdict."""

    action: Action
    reason: str
    step: int
    weight: float


def ends(rollout: Rollout) -> float | None:
    """Until when it must be proven, in seconds since 1970; None: it has not begun."""
    return None if rollout.started is None else rollout.started.timestamp() + rollout.deadline_s


def due(release: Release) -> float | None:
    """When something becomes of the release without a verdict, in seconds since 1970; None: nothing does."""
    rollout = release.rollout
    if rollout is None or rollout.state != RolloutState.RUNNING:
        return None
    end = ends(rollout) if rollout.since else 0.0
    return None if end is None else end + PATIENCE_S


def decide(
    history: Sequence[Release], now: float, report: Report | None = None, *, frozen: bool = False
) -> Decision:
    """The next decision on the rollout of `history[0]` (newest first). `now`: seconds since 1970. `report`: on that release;
    None: nobody says anything now. `frozen`: whether all automation is stopped."""
    release = history[0]
    rollout = release.rollout
    if rollout is None:
        raise ValueError(f"release {release.number} of {release.pipeline} has no rollout")
    weight = canary_share(release.assign.weights, rollout.arm)

    def decision(action: Action, reason: str, step: int = rollout.step, at: float = weight) -> Decision:
        return Decision(action, reason, step, at)

    if frozen or release.frozen:
        return decision(Action.HOLD, "frozen: nothing changes by itself")
    if rollout.state != RolloutState.RUNNING:
        return decision(Action.HOLD, f"{rollout.state}: nothing changes by itself")
    first = rollout.ladder[rollout.step]
    if not rollout.since:
        return decision(Action.START, f"the rollout of {rollout.arm} begins at {first:.2%}", at=first)
    if report is not None and report.verdict is RolloutVerdict.HARM:
        return decision(Action.ROLL_BACK, f"{report.reason} at {weight:.2%}", at=0.0)
    if report is not None and report.verdict is RolloutVerdict.SAMPLE_RATIO_BROKEN:
        return decision(Action.PAUSE, report.reason)
    if report is not None and report.suspicion and not _accepted(history, report.suspicion):
        return decision(Action.PAUSE, report.suspicion)
    if (blocked := _blocked(rollout, weight, now - _stage_start(history), report)) is None:
        if weight >= 1:
            return decision(Action.PROMOTE, report.reason if report else "")
        step = min(rollout.step + 1, len(rollout.ladder) - 1)
        return decision(
            Action.STEP, f"from {weight:.2%} to {rollout.ladder[step]:.2%}", step, rollout.ladder[step]
        )
    end = ends(rollout)
    if end is None or now < end + (PATIENCE_S if report is None else 0) or _paused_at(history, end):
        return decision(Action.HOLD, blocked)
    after = _OTHERWISE[rollout.otherwise]
    why = f"not proven within {rollout.deadline_s:g} s ({blocked}), so by `otherwise`: {rollout.otherwise}"
    if rollout.is_holdback:
        why = f"the holdback of {rollout.deadline_s:g} s ends"
    return decision(after, why, at=0.0 if after == Action.ROLL_BACK else weight)


def _blocked(rollout: Rollout, weight: float, spent: float, report: Report | None) -> str | None:
    """Why the rollout may not go on yet; None: it may."""
    if report is None:
        return "no verdict comes"
    if report.verdict is RolloutVerdict.NOT_KNOWN:
        return report.reason
    if spent < rollout.stage_s:
        return f"{max(spent, 0):.0f} of at least {rollout.stage_s:g} s at {weight:.2%}"
    if weight >= 1:
        return None if report.verdict is RolloutVerdict.PROVEN_FINE else report.reason
    following = rollout.ladder[min(rollout.step + 1, len(rollout.ladder) - 1)]
    if report.verdict is RolloutVerdict.MAY_STEP_UP and report.weight >= following:
        return None
    return f"{report.reason}, the next step is {following:.2%}"


def _stage_start(history: Sequence[Release]) -> float:
    """When the present weight began: other changes of the release don't begin it anew."""
    at = _stage(history[0])
    return min(r.at.timestamp() for r in takewhile(lambda r: _stage(r) == at, history))


def _stage(release: Release) -> tuple[int, float] | None:
    rollout = release.rollout
    return None if rollout is None else (rollout.since, canary_share(release.assign.weights, rollout.arm))


def _accepted(history: Sequence[Release], suspicion: str) -> bool:
    """Whether the rollout was paused for the same, as far as releases are kept: a person has decided since that it goes on."""
    since = history[0].rollout and history[0].rollout.since
    return any(
        release.author == AUTHOR
        and release.reason.partition(". ")[0] == suspicion
        and release.rollout is not None
        and release.rollout.since == since
        and release.rollout.state == RolloutState.PAUSED
        for release in history
    )


def _paused_at(history: Sequence[Release], end: float) -> bool:
    """Whether `otherwise` was done already, as far as releases are kept: a person has decided since that it goes on."""
    since = history[0].rollout and history[0].rollout.since
    return any(
        release.author == AUTHOR
        and release.rollout is not None
        and release.rollout.since == since
        and release.rollout.state == RolloutState.PAUSED
        and release.at.timestamp() >= end
        for release in history
    )
