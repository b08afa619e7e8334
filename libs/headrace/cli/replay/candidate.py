"""What stored events are run against: an arm of a release, with other versions of models if wanted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from headrace.cli.installation import control_place
from headrace.cli.installation.layout import Layout
from headrace.pipeline import DocumentError, Pipeline, kind_of, parse
from headrace.pipeline.problems import suggestion
from headrace.releases import LIVE, Arm, Release, ReleaseError
from headrace.releases.catalog import released
from headrace.repository import RepositoryError


class ReplayError(Exception):
    """Events can't be replayed; the text says why and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """`release`: number 1, whose live arm is the candidate; `text`: its pipeline document; `pipeline`: with its models pinned;
    `name`: where it comes from, for a person."""

    release: Release
    text: str
    pipeline: Pipeline
    name: str


def candidate(layout: Layout, pipeline: str, release: int, arm: str, models: Mapping[str, str]) -> Candidate:
    """What events are run on. `release`: its number; `models`: name → version or label, over those of the arm.

    Raises ReplayError.
    """
    try:
        return _candidate(layout, pipeline, release, arm, models)
    except (ReleaseError, RepositoryError) as error:
        raise ReplayError(str(error)) from None
    except DocumentError as error:
        raise ReplayError("; ".join(map(str, error.problems))) from None


def _candidate(
    layout: Layout, pipeline: str, number: int, arm_name: str, models: Mapping[str, str]
) -> Candidate:
    with closing(control_place.releases(layout)) as store:
        history = store.history(pipeline)
        found = next((release for release in history if release.number == number), None)
        if found is None:
            numbers = ", ".join(str(r.number) for r in history) or "none"
            raise ReplayError(f"release {number} of {pipeline} is not kept; there are: {numbers}")
        arm = found.arms.get(arm_name)
        if arm is None:
            there = ", ".join(sorted(found.arms))
            raise ReplayError(f"release {number} of {pipeline} has no arm {arm_name!r}; it has {there}")
        text = store.document(pipeline, arm.revision)
        if text is None:
            raise ReplayError(f"the document of release {number} of {pipeline} is not stored any more")
    versions = {**arm.models, **_versions(layout, parse(text, pipeline), models)}
    pinned = arm.model_copy(update={"models": versions})
    return _of_arm(text, pipeline, pinned, f"release {number}, arm {arm_name}")


def candidate_of(text: str, name: str, models: Mapping[str, str]) -> Candidate:
    """The candidate of a document that no release has. Raises DocumentError, ReleaseError."""
    pipeline = parse(text, name)
    return _of_arm(text, name, Arm(version=pipeline.version, revision=pipeline.revision, models=models), name)


def _of_arm(text: str, pipeline: str, arm: Arm, name: str) -> Candidate:
    release = Release(pipeline=pipeline, number=1, arms={LIVE: arm})
    return Candidate(release, text, released(release, lambda _: text).live, name)


def models_of(pipeline: Pipeline) -> dict[str, str]:
    """Model → the version that a stage names."""
    return {name: v for stage in pipeline.stages for name, v in kind_of(stage).models(stage).items()}


def _versions(layout: Layout, pipeline: Pipeline, wanted: Mapping[str, str]) -> dict[str, str]:
    known, repository = models_of(pipeline), control_place.models(layout)
    for name in wanted:
        if name not in known:
            raise ReplayError(f"pipeline {pipeline.name} runs no model {name!r}{suggestion(name, known)}")
    return {name: repository.resolve(name, version) for name, version in wanted.items()}
