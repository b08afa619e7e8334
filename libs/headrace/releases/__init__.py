"""What is live: one release document per pipeline, its store, and the pipelines that it names.

`pipeline.yaml` says what can run; the release says what does. Nothing else (the newest version, the order of loading, a
restart) decides it.

Names that need the pipeline document, and NumPy with it, are loaded on first use: settings name the store alone, and each command
that reads settings would pay for them (0.3 s of a processor).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace.releases.document import (
    Arm,
    Assignment,
    Between,
    Cap,
    Experiment,
    Guard,
    OneOf,
    Partition,
    Release,
    Rollout,
    RolloutState,
    Rule,
    Shadow,
)
from headrace.releases.errors import FrozenError, ReleaseError, StaleError
from headrace.releases.spans import LIVE
from headrace.releases.store import Broken, Freeze, ReleaseStore

if TYPE_CHECKING:
    from headrace.releases.catalog import Quarantined, ReleaseCatalog, Released, Reload, released
    from headrace.releases.of_records import RecordReleases
    from headrace.releases.place import PlaceError, open_store

__all__ = [
    "LIVE",
    "Arm",
    "Assignment",
    "Between",
    "Broken",
    "Cap",
    "Experiment",
    "Freeze",
    "FrozenError",
    "Guard",
    "OneOf",
    "Partition",
    "PlaceError",
    "Quarantined",
    "RecordReleases",
    "Release",
    "ReleaseCatalog",
    "ReleaseError",
    "ReleaseStore",
    "Released",
    "Reload",
    "Rollout",
    "RolloutState",
    "Rule",
    "Shadow",
    "StaleError",
    "open_store",
    "released",
]

_LAZY = {
    "PlaceError": "place",
    "Quarantined": "catalog",
    "RecordReleases": "of_records",
    "ReleaseCatalog": "catalog",
    "Released": "catalog",
    "Reload": "catalog",
    "open_store": "place",
    "released": "catalog",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"headrace.releases.{_LAZY[name]}"), name)
