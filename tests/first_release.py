"""First releases of documents: each as its only arm. What a service without control follows then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from headrace.pipeline import Pipeline, parse
from headrace.releases import LIVE, ReleaseStore
from headrace.releases.catalog import Released
from headrace.releases.changes import Basis, deployed
from headrace.releases.document import Arm, Release, to_bytes
from headrace.resources.offline import OfflineResources
from headrace.resources.snapshot import Resource

NO_MODELS: Mapping[str, str] = MappingProxyType({})


def first_release(pipeline: Pipeline, models: Mapping[str, str], author: str, reason: str) -> Release:
    """Release 1: the document as its only arm. `models`: model → version."""
    arm = Arm(version=pipeline.version, revision=pipeline.revision, models=models)
    return deployed(Basis(pipeline.name, None, 0, author, reason), arm)


def first_released(pipeline: Pipeline) -> Released:
    """What serves by it, with the versions of models that the document names."""
    return Released({LIVE: pipeline}, first_release(pipeline, NO_MODELS, "tests", ""))


def release_first(store: ReleaseStore, text: str, models: Mapping[str, str] = NO_MODELS) -> Release:
    """Makes a document live that never was."""
    pipeline = parse(text, "tests")
    release = first_release(pipeline, models, "test", "")
    store.commit(release, {pipeline.revision: text})
    return release


def resources_of(text: str) -> tuple[Resource, Resource]:
    """The same, as services follow it."""
    found = first_released(parse(text, "tests"))
    return (
        Resource.of("release", found.live.name, to_bytes(found.release)),
        Resource.of("document", f"{found.live.name}/{found.live.revision}", text.encode()),
    )


def live(folder: Path, *texts: str) -> dict[str, Any]:
    """Makes these documents what is live by `folder`; returns the setting `resources` of a service that follows it."""
    offline = OfflineResources(folder)
    offline.write(resource for text in texts for resource in resources_of(text))
    return offline.settings
