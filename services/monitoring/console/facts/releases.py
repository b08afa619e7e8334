"""Releases as the pages show them: what changed, the rollout, and what going back would do. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from headrace.analysis import ReadOut
from headrace.releases import Experiment, Freeze, Release, ReleaseError, RolloutState
from headrace.releases.changes import Basis, differences, rolled_back_by, rolled_back_to
from headrace.releases.changes.differences import Difference
from services.monitoring.console.facts import words
from services.monitoring.console.facts.assessment import guard_row
from services.monitoring.rollouts.analyser import Status

_ACTIVE = (RolloutState.RUNNING, RolloutState.PAUSED)
_WAYS_BACK = 10


def release_row(release: Release, before: Release | None) -> dict[str, Any]:
    """One line of the history. `before`: the release that it followed; None: not kept."""
    rollout = release.rollout
    changed = ["the first release that is kept"]
    if before is not None:
        changed = words.sentences(differences(before, release))
    return {
        "pipeline": release.pipeline,
        "number": release.number,
        "at": release.at.isoformat(),
        "author": release.author,
        "reason": release.reason,
        "restores": release.restores or None,
        "changes": changed,
        "verdict": (rollout.verdict or None) if rollout else None,
    }


def key_rows(changes: Iterable[Difference]) -> list[dict[str, str]]:
    """What changes, by the document's keys."""
    return [{"key": c.key, "before": c.before, "after": c.after} for c in changes]


def made_row(made: Release, changes: Sequence[Difference]) -> dict[str, Any]:
    """What somebody has just changed."""
    return {
        "release": release_row(made, None) | {"changes": words.sentences(changes)},
        "keys": key_rows(changes),
    }


def history_rows(history: Sequence[Release]) -> list[dict[str, Any]]:
    """All kept releases, newest first."""
    older: list[Release | None] = [*history[1:], None]
    back = rolled_back_by(history)
    return [
        release_row(r, b) | {"rolled_back_by": back.get(r.number)}
        for r, b in zip(history, older, strict=True)
    ]


def rollout(release: Release, status: Status | None, freeze: Freeze | None) -> dict[str, Any] | None:
    """The ladder, what is waited for, and the figures of each guard; None: there was no rollout."""
    found = release.rollout
    if found is None:
        return None
    current = status if status is not None and status.number == release.number else None
    judgement = current.judgement if current else None
    active = found.state in _ACTIVE
    return {
        "arm": found.arm,
        "state": str(found.state).replace("_", " "),
        "active": active,
        "ladder": [_step(i, share, found.step, active) for i, share in enumerate(found.ladder)],
        "started": found.started.isoformat() if found.started else None,
        "deadline": f"{words.duration(found.deadline_s)} after its start, then: {found.otherwise.replace('_', ' ')}",
        "waits_for": _waits(release, status, freeze) if active else None,
        "guards": [guard_row(guard) for guard in judgement.guards] if judgement and active else [],
        "verdict": found.verdict or None,
        "problem": (status.problem or None) if status and active else None,
    }


def _step(index: int, share: float, at: int, active: bool) -> dict[str, Any]:
    state = "done" if index < at else "now" if index == at else "to come"
    return {"share": share, "state": state if active or state != "now" else "reached"}


def _waits(release: Release, status: Status | None, freeze: Freeze | None) -> str:
    if freeze is not None:
        return f"all automation is frozen by {freeze.author}: {freeze.reason}"
    if release.frozen:
        return "automation is frozen for this pipeline"
    if release.rollout is not None and release.rollout.state is RolloutState.PAUSED:
        return "it is paused; a person must resume it: headrace rollout resume"
    if status is None or status.answer is None or status.number != release.number:
        return "the analyser has not looked at it yet"
    return status.answer.reason


def way_back(basis: Basis, history: Sequence[Release], number: int | None = None) -> dict[str, Any]:
    """What going back would do. `number`: to which release; None: out of a running rollout, else to the live arm before this.

    `possible` False: `why` says what is in the way.
    """
    try:
        made = rolled_back_to(basis, history, number)
    except ReleaseError as error:
        first = number is None and all(release.live == history[0].live for release in history)
        why = "no release with another live arm is kept" if first else "; ".join(error.problems)
        return {"possible": False, "why": why, "label": "Roll back"}
    changes = differences(basis.release, made)
    return {
        "possible": bool(changes),
        "why": "" if changes else "nothing would change: it serves that already",
        # Out of a running rollout nothing is restored.
        "label": f"Roll back to release {made.restores}" if made.restores else "End the rollout",
        "to": made.restores or None,
    }


def ways_back(basis: Basis, history: Sequence[Release]) -> dict[int, bool]:
    """Which older releases one can go back to."""
    older = [r for r in history if r.number < basis.newest][:_WAYS_BACK]
    return {r.number: bool(way_back(basis, history, r.number)["possible"]) for r in older}


def experiment(found: tuple[Experiment, ReadOut] | None) -> dict[str, Any] | None:
    """The read-out of a running experiment; None: none runs."""
    if found is None:
        return None
    about, read = found
    return {
        "name": about.name,
        "outcome": about.outcome,
        "phase": about.phase,
        "started": about.started.isoformat() if about.started else None,
        "read": read,
        "sample_ratio_evidence": min(math.exp(min(read.sample_ratio_log_e, 700.0)), 1e300),
    }
