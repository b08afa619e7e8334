"""A decision → the next release."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from headrace.releases.changes.rollouts import promotion, unnamed
from headrace.releases.document import LIVE, Release, Rollout, RolloutState
from headrace.releases.ladder import Action
from services.control.ladder.machine import AUTHOR, Decision

_LONGEST_REASON = 2000


def next_release(
    release: Release, decision: Decision, at: datetime, figures: str = "", after: int | None = None
) -> Release | None:
    """The release that carries the decision out; None: there is nothing to change. Raises ReleaseError.

    `at`: when it is made. `figures`: of the verdict that led to it. `after`: number of the newest release, if that one can't be
    read.
    """
    rollout = release.rollout
    if rollout is None or decision.action == Action.HOLD:
        return None
    reason = ". ".join(filter(None, (decision.reason, figures)))[:_LONGEST_REASON]
    changes: dict[str, Any]
    match decision.action:
        case Action.PROMOTE:
            changes = promotion(release, rollout)
        case Action.PAUSE:
            changes = {"rollout": {"state": RolloutState.PAUSED}}
        case Action.ROLL_BACK:
            changes = {
                "assign": _weights(release, rollout, 0.0),
                "rollout": {"state": RolloutState.ROLLED_BACK},
                # A rule gives rows to its arm whatever the weights are.
                **unnamed(release, rollout.arm),
            }
        case _:
            changes = {
                "assign": _weights(release, rollout, decision.weight),
                "rollout": {"step": decision.step},
            }
    if decision.action == Action.START:
        changes["rollout"] |= {"since": (after or release.number) + 1, "started": at.isoformat()}
    changes["rollout"] = rollout.model_dump(mode="json") | changes["rollout"] | {"verdict": reason}
    return release.next(AUTHOR, reason, after, restores=0, **changes).model_copy(update={"at": at})


def _weights(release: Release, rollout: Rollout, share: float) -> dict[str, Any]:
    """The assignment in which the canary has `share` of what it divides with the live arm; other arms keep theirs."""
    weights = dict(release.assign.weights)
    both = weights.get(LIVE, 0.0) + weights.get(rollout.arm, 0.0)
    weights[LIVE], weights[rollout.arm] = both * (1 - share), both * share
    return release.assign.model_dump(mode="json") | {"weights": weights}
