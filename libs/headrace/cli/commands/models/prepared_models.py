"""The models that preparations publish while nothing runs: control lists them once it does."""

from __future__ import annotations

import json
from pathlib import Path

from headrace.catalog.access import Records
from headrace.cli.installation.layout import Layout
from headrace.repository import Repository, RepositoryError, Trust, changes
from headrace.state import atomic, plain_files

AUTHOR = "headrace up"


def note(layout: Layout, model: str, version: str) -> None:
    """Has the next `up` list a version. Raises OSError."""
    _write(layout.prepared_models, {**_noted(layout.prepared_models), model: version})


def add(layout: Layout, records: Records) -> list[str]:
    """Has control list what was noted and is signed by the home's key; returns which. Raises RecordsError, and RepositoryError
    once all others are listed."""
    noted = _noted(layout.prepared_models)
    repository = Repository(layout.models, trust=Trust((layout.model_public_key,)))
    left: dict[str, str] = {}
    problem: RepositoryError | None = None
    for model, version in noted.items():
        try:
            changes.add(records, repository.examine(model, version).metadata, AUTHOR)
        except RepositoryError as error:
            left[model], problem = version, error
    if noted:
        _write(layout.prepared_models, left)
    if problem is not None:
        raise problem
    return [f"{model} version {version}" for model, version in noted.items()]


def _write(path: Path, noted: dict[str, str]) -> None:
    atomic.write(path, json.dumps(noted).encode())


def _noted(path: Path) -> dict[str, str]:
    """One that can't be read is written anew by preparations of what is not listed."""
    try:
        found = json.loads(plain_files.read(path))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
