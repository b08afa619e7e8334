"""Back to an older release: a new one that points at it. Which one that is, is decided here for all callers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from headrace.releases.changes.basis import ACTIVE, Basis
from headrace.releases.changes.rollouts import aborted, without_rollout
from headrace.releases.document import LIVE, Arm, Release, RolloutState
from headrace.releases.errors import ReleaseError

# What an older release brings back. Whether automation is frozen, and the labels, are not about what serves.
_SERVING = ("arms", "assign", "rules", "partition", "caps", "shadow")


def rolled_back_to(basis: Basis, history: Sequence[Release], number: int | None = None) -> Release:
    """What release `number` served. None: the newest release before the one that the current one restores (or before itself)
    whose live arm differs and was not rolled back; or, if a rollout is running, the current one without its arm, as that arm is
    what is new. `history`: newest first.

    Its rollout and experiment do not begin anew: all rows of theirs go to the live arm. A rollout that is running ends.
    Raises ReleaseError: there is no such release among those that are kept.
    """
    current = basis.current
    if number is None and current.rollout is not None and current.rollout.state in ACTIVE:
        return aborted(basis)
    target = _target(basis, current, history, number)
    changes = {key: getattr(target, key) for key in _SERVING} | without_rollout(target)
    if target.experiment is not None:
        changes["assign"] = {"weights": {LIVE: 1.0}, "by": target.assign.by, "salt": target.assign.salt}
    why = f"roll back to release {target.number}"
    return basis.next(why, rollout=None, experiment=None, restores=target.number, **changes)


def rolled_back_by(history: Sequence[Release]) -> dict[int, int]:
    """Number of each release whose live arm was rolled back later → number of the release that did so. `history`: newest first.

    An arm that was deployed again since is another release's, which is not among them.
    """
    found: dict[int, int] = {}
    for before, after in pairwise(reversed(history)):
        arm = arm_rolled_back(before, after)
        for release in history:
            if release.number < after.number and release.live == arm:
                found.setdefault(release.number, after.number)
    return found


def arm_rolled_back(before: Release, after: Release) -> Arm | None:
    """The arm that `after` took rows from by going back: the live one, or that of a rollout that was ended for it."""
    if after.restores and after.live != before.live:
        return before.live
    old, new = before.rollout, after.rollout
    undone = (RolloutState.ROLLED_BACK, RolloutState.ABORTED)
    if old is not None and old.state in ACTIVE and new is not None and new.state in undone:
        return before.arms[old.arm]
    return None


def _target(basis: Basis, current: Release, history: Sequence[Release], number: int | None) -> Release:
    older = [release for release in history if release.number < basis.newest]
    kept = ", ".join(str(release.number) for release in older) or "none"
    if number is None:
        bad = rolled_back_by(history)
        # From a newest one that can't be read, the way goes back to the newest that can.
        whole = basis.newest == current.number
        found = current if not whole and current.number not in bad else _walked_back(current, older, bad)
        if found is None:
            left = (
                f"; rolled back: {', '.join(str(r.number) for r in older if r.number in bad)}" if bad else ""
            )
            problem = f"number: no kept release to go back to has another live arm (kept: {kept}{left}); name one: --to NUMBER"
            raise ReleaseError(basis.pipeline, [problem])
        return found
    found = next((release for release in older if release.number == number), None)
    if found is None:
        problem = f"number: there is no release {number} before the current one (kept: {kept})"
        raise ReleaseError(basis.pipeline, [problem])
    return found


def _walked_back(current: Release, older: Sequence[Release], bad: dict[int, int]) -> Release | None:
    """From a release that restores another one the way goes on from that one: those between were passed over already."""
    at = current
    while True:
        last = min(at.restores or at.parent, at.number - 1)
        found = next((release for release in older if release.number <= last), None)
        if found is None or (found.live != current.live and found.number not in bad):
            return found
        at = found
