"""A rollout as people steer it: start, pause, promote, abort. What the analyser does by itself takes the same steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from headrace.pipeline.guards import Guard, GuardAction
from headrace.releases.changes.basis import ACTIVE, Basis
from headrace.releases.document import LIVE, Arm, Release, Rollout, RolloutState
from headrace.releases.errors import FrozenError, ReleaseError
from headrace.releases.store import Freeze

CANDIDATE = "candidate"
# The live arm that was replaced by a rollout: it stays loaded, without rows, so that going back takes no loading.
PREVIOUS = "previous"
# Of a deployment's rows, those that what was live before keeps, and for how many seconds. At 300 rows/s 5 % show what is broken
# in seconds; 1 % would take five times as long for the bins of answers.
HOLDBACK, HOLDBACK_S = 0.05, 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How an arm is to take over, and `why`. `by`: the input column whose value sticks to an arm; None: as it was. `rules`:
    fields of a `Rollout` that differ from its defaults (ladder, guards, alpha, deadline_s, otherwise). `declared`: the `guards`
    of the arm's document."""

    name: str = CANDIDATE
    by: str | None = None
    rules: dict[str, Any] = field(default_factory=dict)
    declared: Mapping[str, GuardAction] = field(default_factory=dict)
    why: str = "roll out"

    @property
    def guards(self) -> dict[str, Any]:
        """Those that the rollout names, as its rules or the arm's document say."""
        return {**{n: Guard(action=a) for n, a in self.declared.items()}, **self.rules.get("guards", {})}


def rollout_started(basis: Basis, arm: Arm, plan: Plan, now: datetime, freeze: Freeze | None) -> Release:
    """The arm begins with the first weight of its ladder. `freeze`: of all pipelines.

    Raises ReleaseError: one is running, rows go to other arms already, nothing differs; FrozenError.
    """
    basis = without_holdback(basis)
    current = basis.current
    basis.refuse_rollout("another one")
    basis.refuse_experiment("a rollout, which changes weights")
    _refuse_frozen(basis, freeze)
    if plan.name == LIVE:
        raise ReleaseError(
            basis.pipeline, [f"rollout.arm: {LIVE!r} is what it takes over from; name another"]
        )
    elsewhere = [name for name, weight in current.assign.weights.items() if weight and name != LIVE]
    if elsewhere:
        problem = f"assign.weights: the arm {elsewhere[0]!r} has rows already; a rollout begins with all rows at {LIVE!r}"
        raise ReleaseError(basis.pipeline, [problem])
    if arm == current.live:
        problem = (
            f"arms.{plan.name}: it is what the arm {LIVE!r} is already; name another version or document"
        )
        raise ReleaseError(basis.pipeline, [problem])
    about = {
        **plan.rules,
        "guards": plan.guards,
        "arm": plan.name,
        "started": now.isoformat(),
        "step": 0,
        "verdict": "",
    }
    # Evidence counts from this release on.
    about["since"] = basis.newest + 1
    ladder = about.get("ladder") or Rollout.model_fields["ladder"].default
    assign = {
        "weights": _weights(plan.name, ladder[0]),
        "by": plan.by or current.assign.by,
        "salt": f"{basis.pipeline}-{basis.newest + 1}",
    }
    why = f"{plan.why} version {arm.version}"
    return basis.next(why, arms={**current.arms, plan.name: arm}, assign=assign, rollout=about)


def holdback_plan(declared: Mapping[str, GuardAction]) -> Plan:
    """The plan of a deployment: nearly all rows at once, and after an hour all, unless something is found before."""
    rules = {"ladder": (1 - HOLDBACK, 1.0), "deadline_s": HOLDBACK_S, "stage_s": 2 * HOLDBACK_S}
    return Plan(rules={**rules, "otherwise": "promote"}, declared=declared, why="deploy")


def without_holdback(basis: Basis) -> Basis:
    """What the next change begins from: a holdback ends for it, and the arm that has nearly all rows is the live one. One that is
    paused stays, as a person has yet to decide on what was found."""
    rollout = basis.release.rollout if basis.release else None
    if rollout is None or rollout.state is not RolloutState.RUNNING or not rollout.is_holdback:
        return basis
    return replace(basis, release=promoted(basis))


def paused(basis: Basis) -> Release:
    """The weights stay as they are. Raises ReleaseError."""
    rollout = _active(basis)
    if rollout.state is RolloutState.PAUSED:
        raise ReleaseError(basis.pipeline, ["rollout.state: it is paused already"])
    return basis.next("pause the rollout", rollout=_with(rollout, state=RolloutState.PAUSED))


def resumed(basis: Basis, freeze: Freeze | None) -> Release:
    """It goes on where it was paused. Raises ReleaseError, FrozenError."""
    rollout = _active(basis)
    if rollout.state is RolloutState.RUNNING:
        raise ReleaseError(basis.pipeline, ["rollout.state: it is running already"])
    _refuse_frozen(basis, freeze)
    return basis.next("go on with the rollout", rollout=_with(rollout, state=RolloutState.RUNNING))


def promoted(basis: Basis) -> Release:
    """The new arm becomes the live one and gets all rows; the old one stays as `previous`. Raises ReleaseError."""
    rollout = _active(basis)
    changes = promotion(basis.current, rollout)
    about = {**changes.pop("rollout"), "verdict": f"promoted by {basis.author}"}
    return basis.next("promote the rollout", rollout=_with(rollout, **about), **changes)


def promotion(release: Release, rollout: Rollout) -> dict[str, Any]:
    """The changes by which the new arm becomes the live one, which stays as `previous`; `rollout`: what changes of it. Rules for
    the new arm, or for an older `previous`, go to the new live arm. So does a shadow's traffic to it end, as it would compare the
    live arm with itself."""
    arms: dict[str, Arm] = {name: arm for name, arm in release.arms.items() if name != rollout.arm}
    gone = {rollout.arm, PREVIOUS}
    arms |= {LIVE: release.arms[rollout.arm], PREVIOUS: release.live}
    weights: dict[str, float] = {}
    for name, weight in release.assign.weights.items():
        renamed = LIVE if name in gone else name
        weights[renamed] = weights.get(renamed, 0.0) + weight
    weights[PREVIOUS] = 0.0
    changes: dict[str, Any] = {
        "arms": arms,
        "assign": release.assign.model_dump(mode="json") | {"weights": weights},
        "rules": [
            rule.model_dump(mode="json") | ({"arm": LIVE} if rule.arm in gone else {})
            for rule in release.rules
        ],
        "rollout": {"state": RolloutState.PROMOTED, "step": len(rollout.ladder) - 1},
    }
    if release.shadow and release.shadow.arm in gone:
        changes["shadow"] = None
    if release.experiment and gone & set(release.experiment.arms):
        # Its arms have changed their meaning; its read-out ends with this release.
        changes["experiment"] = None
    return changes


def aborted(basis: Basis) -> Release:
    """All rows go back to the live arm; a person decided so. Raises ReleaseError."""
    rollout = _active(basis)
    ended = _with(rollout, state=RolloutState.ABORTED, verdict=f"aborted by {basis.author}")
    return basis.next("abort the rollout", rollout=ended, **without_rollout(basis.current))


def without_idle(release: Release) -> dict[str, Arm]:
    """The arms without those that a rollout has left behind and that nothing uses: they need not fit what comes next."""
    rollout = release.rollout
    left = {PREVIOUS} | ({rollout.arm} if rollout and rollout.state not in ACTIVE else set())
    used = {arm for arm, weight in release.assign.weights.items() if weight} | {LIVE}
    used |= {rule.arm for rule in release.rules}
    used |= {release.shadow.arm} if release.shadow else set()
    used |= set(release.experiment.arms) if release.experiment else set()
    return {name: arm for name, arm in release.arms.items() if name in used or name not in left}


def without_rollout(release: Release) -> dict[str, Any]:
    """The changes that take the arm of a rollout out of a release: arms, weights, rules and shadow that name it."""
    rollout = release.rollout
    if rollout is None or rollout.arm not in release.arms or rollout.arm == LIVE:
        return {}
    return {
        "arms": {name: arm for name, arm in release.arms.items() if name != rollout.arm},
        "assign": {"weights": {LIVE: 1.0}, "by": release.assign.by, "salt": release.assign.salt},
        **unnamed(release, rollout.arm),
    }


def unnamed(release: Release, arm: str) -> dict[str, Any]:
    """The changes by which no rule and no shadow names an arm."""
    shadow = release.shadow
    return {
        "rules": tuple(rule for rule in release.rules if rule.arm != arm),
        "shadow": None if shadow and shadow.arm == arm else shadow,
    }


def _active(basis: Basis) -> Rollout:
    rollout = basis.current.rollout
    if rollout is None or rollout.state not in ACTIVE:
        was = f"the last one is over ({rollout.state})" if rollout else "there was none"
        start = f"headrace rollout start {basis.pipeline}"
        raise ReleaseError(basis.pipeline, [f"rollout: none is running, {was}; start one: {start}"])
    return rollout


def _refuse_frozen(basis: Basis, freeze: Freeze | None) -> None:
    if freeze is not None:
        raise FrozenError(basis.pipeline, freeze.author, freeze.reason)
    if basis.current.frozen:
        raise FrozenError(basis.pipeline, basis.current.author, basis.current.reason)


def _with(rollout: Rollout, **changes: Any) -> dict[str, Any]:
    return {**rollout.model_dump(mode="json"), **changes}


def _weights(arm: str, share: float) -> dict[str, float]:
    return {arm: 1.0} if share >= 1 else {LIVE: 1 - share, arm: share}
