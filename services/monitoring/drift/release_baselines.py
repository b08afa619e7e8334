"""Finds the baseline of what an arm runs: releases name the models, the repository has their baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from headrace.drift import Baseline, baseline_of_version
from headrace.drift.baseline import ColumnBaseline
from headrace.releases import Release
from headrace.repository import Repository, RepositoryError
from services.monitoring.drift.ports import Series
from services.monitoring.ports import Log

# Versions never change, so what was read of them stays true; this bounds what is kept.
_MOST_VERSIONS = 256


class Releases(Protocol):
    """Where releases are. Blocks. Raises ReleaseError or OSError."""

    def history(self, pipeline: str) -> Sequence[Release]:
        """The newest first."""
        ...


class ReleaseBaselines:
    """A `Baselines`. For one thread at a time."""

    def __init__(
        self, releases: Releases, repository: Repository, log: Log, refused: Callable[[str], None]
    ) -> None:
        """`refused`: counts a baseline that can't be used."""
        self._releases = releases
        self._repository = repository
        self._log = log
        self._refused = refused
        self._read: dict[tuple[str, str], Baseline | None] = {}
        self._told: dict[tuple[str, str], str] = {}

    def __call__(self, series: Series) -> Baseline | None:
        """Of all models that the arm runs together; of a column that two of them have, that of the first by name."""
        found = [
            baseline
            for model, version in sorted(self._models(series).items())
            if (baseline := self._of(model, version)) is not None
        ]
        return _together(found)

    def _models(self, series: Series) -> Mapping[str, str]:
        """Model → version, by the newest release in which this arm ran this revision."""
        for release in self._releases.history(series.pipeline):
            arm = release.arms.get(series.arm)
            if arm is not None and arm.revision == series.revision:
                return arm.models
        return {}

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
                self._refused("baseline")
                self._log.error("a baseline can't be used", model=model, version=version, why=str(error))
            return None
        self._told.pop(key, None)
        if len(self._read) >= _MOST_VERSIONS:
            del self._read[next(iter(self._read))]
        self._read[key] = found
        return found


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
