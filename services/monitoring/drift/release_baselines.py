"""Finds the baseline of what an arm runs: releases name the models, the repository has their baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from headrace.drift import Baseline, baseline_of_version
from headrace.drift.baseline import ColumnBaseline
from headrace.releases import Release
from headrace.repository import Repository, RepositoryError
from services.monitoring.drift.ports import Followed, Series, Traffic
from services.monitoring.ports import Log

# Versions never change, so what was read of them stays true; this bounds what is kept.
_MOST_VERSIONS = 256


class Releases(Protocol):
    """Where releases are. Blocks. Raises ReleaseError or OSError."""

    def pipelines(self) -> Iterable[str]: ...

    def history(self, pipeline: str) -> Sequence[Release]:
        """The newest first."""
        ...


class ReleaseBaselines:
    """A `Baselines`. For one thread at a time."""

    def __init__(
        self, releases: Releases, repository: Repository, log: Log, refused: Callable[[], None]
    ) -> None:
        """`refused`: counts a baseline that can't be used."""
        self._releases = releases
        self._repository = repository
        self._log = log
        self._refused = refused
        self._read: dict[tuple[str, str], Baseline | None] = {}
        self._told: dict[tuple[str, str], str] = {}

    def __call__(self) -> Mapping[Series, Followed]:
        """Of all models that an arm runs together; of a column that two of them have, that of the first by name."""
        found: dict[Series, Followed] = {}
        for pipeline in self._releases.pipelines():
            history = self._releases.history(pipeline)
            newest = history[0] if history else None
            for name, arm in newest.arms.items() if newest else ():
                baselines = [self._of(model, version) for model, version in sorted(arm.models.items())]
                followed = Followed(_together([b for b in baselines if b is not None]), _since(history, name))
                shadow = newest is not None and newest.shadow is not None and newest.shadow.arm == name
                traffic = Traffic.SHADOW if shadow else Traffic.LIVE
                found[Series(pipeline, arm.revision, name, traffic)] = followed
        return found

    def _of(self, model: str, version: str) -> Baseline | None:
        key = (model, version)
        if key in self._read:
            return self._read[key]
        try:
            found = baseline_of_version(self._repository, model, version)
        except RepositoryError as error:
            # It may be mended, so it is tried again; the log has each problem once.
            if self._told.get(key) != error.problem:
                self._told[key] = error.problem
                self._refused()
                self._log.error("a baseline can't be used", model=model, version=version, why=str(error))
            return None
        self._told.pop(key, None)
        if len(self._read) >= _MOST_VERSIONS:
            del self._read[next(iter(self._read))]
        self._read[key] = found
        return found


def _since(history: Sequence[Release], arm: str) -> int:
    """Number of the release with which an arm began to run what it runs."""
    runs, since = history[0].arms[arm], history[0].number
    for release in history[1:]:
        before = release.arms.get(arm)
        if before is None or (before.revision, before.models) != (runs.revision, runs.models):
            break
        since = release.number
    return since


def _together(baselines: Sequence[Baseline]) -> Baseline | None:
    if len(baselines) < 2:
        return baselines[0] if baselines else None
    columns: dict[str, ColumnBaseline] = {}
    tensors: dict[str, tuple[str, ...]] = {}
    for baseline in reversed(baselines):
        columns.update(baseline.columns)
        tensors.update(baseline.tensors)
    calibration = next((b.calibration for b in baselines if b.calibration is not None), None)
    return Baseline(rows=baselines[0].rows, tensors=tensors, columns=columns, calibration=calibration)
