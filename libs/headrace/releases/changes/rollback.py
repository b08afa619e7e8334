"""Back to an older release: a new one that points at it."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.releases.changes.basis import ACTIVE, Basis
from headrace.releases.changes.rollouts import aborted, without_rollout
from headrace.releases.document import LIVE, Release
from headrace.releases.errors import ReleaseError

# What an older release brings back. Whether automation is frozen, and the labels, are not about what serves.
_SERVING = ("arms", "assign", "rules", "partition", "caps", "shadow")


def rolled_back_to(basis: Basis, history: Sequence[Release], number: int | None = None) -> Release:
    """What release `number` served. None: the newest release before the current one whose live arm differs; or, if a rollout is
    running, the current one without its arm, as that arm is what is new.

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


def _target(basis: Basis, current: Release, history: Sequence[Release], number: int | None) -> Release:
    older = [release for release in history if release.number < current.number]
    kept = ", ".join(str(release.number) for release in older) or "none"
    if number is None:
        found = next((release for release in older if release.live != current.live), None)
        if found is None:
            problem = f"number: no kept release has another live arm (kept: {kept}); name one: --to NUMBER"
            raise ReleaseError(basis.pipeline, [problem])
        return found
    found = next((release for release in older if release.number == number), None)
    if found is None:
        problem = f"number: there is no release {number} before the current one (kept: {kept})"
        raise ReleaseError(basis.pipeline, [problem])
    return found
