"""An A/B test between arms that are in the release already."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from headrace.releases.changes.basis import Basis
from headrace.releases.changes.rollouts import without_holdback
from headrace.releases.document import LIVE, Release
from headrace.releases.errors import ReleaseError
from headrace.releases.spans import placed


def experiment_started(
    basis: Basis, name: str, weights: Mapping[str, float], outcome: str, by: str, now: datetime
) -> Release:
    """The arms get these shares of the values of the column `by`. Raises ReleaseError."""
    basis = without_holdback(basis)
    current = basis.current
    basis.refuse_rollout("an experiment")
    running = current.experiment
    phase = 1
    if running is not None:
        if running.name != name:
            basis.refuse_experiment("another one")
        # Figures of different weights must not be mixed.
        phase = running.phase + 1
    if not by:
        problem = "assign.by: an experiment assigns by the values of a column, such as a customer; name it: --by COLUMN"
        raise ReleaseError(basis.pipeline, [problem])
    assign: dict[str, Any] = {"weights": dict(weights), "by": by}
    assign["salt"] = f"{basis.pipeline}-{name}-{basis.newest + 1}"
    if phase > 1:
        # Nobody changes sides but those whose share moved.
        starts = placed(current.assign.weights, current.assign.starts)
        assign["salt"] = current.assign.salt
        assign["starts"] = {arm: at for arm, at in starts.items() if arm in weights}
    about = {
        "name": name,
        "arms": sorted(weights, key=lambda arm: (arm != LIVE, arm)),
        "outcome": outcome,
        "started": now.isoformat(),
        "phase": phase,
    }
    why = f"start the experiment {name}" if phase == 1 else f"phase {phase} of the experiment {name}"
    return basis.next(why, experiment=about, assign=assign)


def experiment_stopped(basis: Basis) -> Release:
    """All rows go to the live arm again; the other arms stay, for a rollout of the better one. Raises ReleaseError."""
    current = basis.current
    if current.experiment is None:
        raise ReleaseError(basis.pipeline, ["experiment: none is running"])
    assign = {"weights": {LIVE: 1.0}, "by": current.assign.by, "salt": current.assign.salt}
    return basis.next(f"stop the experiment {current.experiment.name}", experiment=None, assign=assign)
