"""The models that preparations publish while nothing runs: control lists them once it does."""

from __future__ import annotations

import json
from pathlib import Path

from headrace.catalog.access import Records
from headrace.cli.installation.layout import Layout
from headrace.repository import Repository, Trust, changes
from headrace.state import atomic, plain_files

AUTHOR = "headrace up"


def note(layout: Layout, model: str, version: str) -> None:
    """Has the next `up` list a version. Raises OSError."""
    atomic.write(
        layout.prepared_models, json.dumps({**_noted(layout.prepared_models), model: version}).encode()
    )


def add(layout: Layout, records: Records) -> list[str]:
    """Has control list what was noted and is signed by the home's key; returns which. Raises RepositoryError, RecordsError."""
    noted = _noted(layout.prepared_models)
    repository = Repository(layout.models, trust=Trust((layout.model_public_key,)))
    for model, version in noted.items():
        changes.add(records, repository.examine(model, version).metadata, AUTHOR)
    layout.prepared_models.unlink(missing_ok=True)
    return [f"{model} version {version}" for model, version in noted.items()]


def _noted(path: Path) -> dict[str, str]:
    """One that can't be read is written anew by preparations of what is not listed."""
    try:
        found = json.loads(plain_files.read(path))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
