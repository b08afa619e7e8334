"""The first release of a pipeline: its document as it is now, with a version for each model."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.pipeline import Pipeline
from headrace.releases.changes import Basis, deployed
from headrace.releases.document import Arm, Release


def first_release(pipeline: Pipeline, models: Mapping[str, str], author: str, reason: str) -> Release:
    """Release 1: the document as its only arm. `models`: model → version."""
    arm = Arm(version=pipeline.version, revision=pipeline.revision, models=models)
    return deployed(Basis(pipeline.name, None, 0, author, reason), arm)
