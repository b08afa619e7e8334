"""What is live: one release document per pipeline, its store, and the pipelines that it names.

`pipeline.yaml` says what can run; the release says what does. Nothing else (the newest version, the order of loading, a
restart) decides it.
"""

from headrace.releases.catalog import ReleaseCatalog, Released, released
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
from headrace.releases.files import FileReleases
from headrace.releases.place import PlaceError, open_catalog, open_store
from headrace.releases.spans import LIVE
from headrace.releases.store import Broken, Freeze, ReleaseStore

__all__ = [
    "LIVE",
    "Arm",
    "Assignment",
    "Between",
    "Broken",
    "Cap",
    "Experiment",
    "FileReleases",
    "Freeze",
    "FrozenError",
    "Guard",
    "OneOf",
    "Partition",
    "PlaceError",
    "Release",
    "ReleaseCatalog",
    "ReleaseError",
    "ReleaseStore",
    "Released",
    "Rollout",
    "RolloutState",
    "Rule",
    "Shadow",
    "StaleError",
    "open_catalog",
    "open_store",
    "released",
]
