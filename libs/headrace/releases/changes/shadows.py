"""A shadow as people start and stop it."""

from __future__ import annotations

from headrace.releases.changes.basis import Basis
from headrace.releases.document import LIVE, Arm, Release, Shadow
from headrace.releases.errors import ReleaseError

SHADOW = "shadow"


def shadow_started(basis: Basis, arm: Arm, name: str = SHADOW, share: float = 1.0) -> Release:
    """A copy of `share` of the requests runs on the arm from now on. An arm of this name is replaced if it was the shadow.

    Raises ReleaseError: rows go to an arm of this name.
    """
    current = basis.current
    if name == LIVE:
        raise ReleaseError(basis.pipeline, [f"shadow.arm: {LIVE!r} answers the requests; name another"])
    who = _named_by(current, name)
    if who and current.arms[name] != arm:
        problem = f"arms.{name}: {who} names it, so it stays as it is; name another arm"
        raise ReleaseError(basis.pipeline, [problem])
    arms = {**_without_shadow(current), name: arm}
    why = f"run version {arm.version} as a shadow of {share:.0%}"
    return basis.next(why, arms=arms, shadow=Shadow(arm=name, share=share))


def shadow_stopped(basis: Basis) -> Release:
    """Nothing runs as a shadow any more; an arm that was nothing else is gone. Raises ReleaseError: there is none."""
    current = basis.current
    if current.shadow is None:
        start = f"headrace shadow start {basis.pipeline}"
        raise ReleaseError(basis.pipeline, [f"shadow: there is none; start one: {start}"])
    return basis.next("stop the shadow", arms=_without_shadow(current), shadow=None)


def _without_shadow(release: Release) -> dict[str, Arm]:
    """The arms but for that of the shadow, unless something else names it."""
    gone = release.shadow.arm if release.shadow else ""
    if not gone or _named_by(release, gone):
        return dict(release.arms)
    return {name: arm for name, arm in release.arms.items() if name != gone}


def _named_by(release: Release, arm: str) -> str:
    """What but a shadow names the arm, for a person; "": nothing."""
    if arm not in release.arms:
        return ""
    if arm == LIVE or arm in release.assign.weights:
        return "a weight"
    if any(rule.arm == arm for rule in release.rules):
        return "a rule"
    if release.rollout and release.rollout.arm == arm:
        return "the rollout"
    return "the experiment" if release.experiment and arm in release.experiment.arms else ""
