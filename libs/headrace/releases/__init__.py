"""What is live: one release document per pipeline, its store, and the pipelines that it names.

`pipeline.yaml` says what can run; the release says what does. Nothing else (the newest version, the order of loading, a
restart) decides it.

`catalog.py` and `changes/` need the pipeline document, and NumPy with it: each command that reads settings would pay for them
(0.3 s of a processor), so they are not imported here.
"""

from __future__ import annotations

from headrace.pipeline.guards import Guard
from headrace.releases.document import (
    Arm,
    Assignment,
    Between,
    Cap,
    Experiment,
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
    "Release",
    "ReleaseError",
    "ReleaseStore",
    "Rollout",
    "RolloutState",
    "Rule",
    "Shadow",
    "StaleError",
]
