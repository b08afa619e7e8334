"""The read-out of an experiment: who met which arm, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.analysis import ReadOut, read_out
from headrace.releases import Release
from services.monitoring.outcomes.store import OutcomeStore


def phase_began(history: Sequence[Release]) -> int | None:
    """Number of the release with which the present phase of the experiment began; None: no experiment runs.

    `history`: newest first. If older releases of the phase are no longer kept, it is the oldest that is.
    """
    current = history[0].experiment if history else None
    if current is None:
        return None
    began = history[0].number
    for release in history:
        same = release.experiment is not None and (release.experiment.name, release.experiment.phase) == (
            current.name,
            current.phase,
        )
        if not same:
            break
        began = release.number
    return began


def experiment_read_out(
    history: Sequence[Release], outcomes: OutcomeStore, alpha: float = 0.05
) -> ReadOut | None:
    """Compares the arms of the running experiment; None: there is none. `history`: the pipeline's releases, newest first.

    Blocks. Raises StorageError. Of the present phase only: figures of different weights must not be mixed.
    """
    since = phase_began(history)
    if since is None:
        return None
    release = history[0]
    experiment = release.experiment
    assert experiment is not None, "a phase has begun"
    return read_out(
        experiment.arms,
        release.assign.weights,
        outcomes.drawn(release.pipeline, since),
        outcomes.values(release.pipeline, experiment.outcome, since),
        alpha,
    )
