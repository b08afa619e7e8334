"""Reads the signed baselines of models, which base rows are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.drift import Baseline, baseline_of_version
from headrace.drift.baseline import ColumnBaseline
from headrace.repository import Repository, RepositoryError


class RepositoryBaselines:
    """`subject.Baselines` of a repository. A baseline that can't be read is said once, and the base row is made without it."""

    def __init__(self, repository: Repository, log: Any) -> None:
        self._repository = repository
        self._log = log
        self._told: set[tuple[str, str]] = set()

    def __call__(self, models: Mapping[str, str]) -> Baseline | None:
        """Of a column that two models have, that of the first by name."""
        columns: dict[str, ColumnBaseline] = {}
        rows = 0
        for model, version in sorted(models.items(), reverse=True):
            found = self._of(model, version)
            if found is not None:
                rows = found.rows
                columns.update(found.columns)
        return Baseline(rows=rows, columns=columns) if columns else None

    def _of(self, model: str, version: str) -> Baseline | None:
        if not version:
            return None  # the executor chooses one; nobody knows which it will be
        try:
            return baseline_of_version(self._repository, model, version)
        except RepositoryError as error:
            if (model, version) not in self._told:
                self._told.add((model, version))
                self._log.warning(
                    "a baseline can't be used for explanations", model=model, version=version, why=str(error)
                )
            return None
