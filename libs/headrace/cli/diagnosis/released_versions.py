"""Which versions of models releases and documents name: what must stay, and what does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from headrace.cli.diagnosis import broken_pipelines
from headrace.cli.installation import release_place
from headrace.cli.installation.layout import Layout
from headrace.pipeline import Pipeline, Problem, kind_of
from headrace.pipeline.problems import suggestion
from headrace.releases import LIVE, Release
from headrace.repository import Repository


def naming(layout: Layout, model: str, version: str) -> list[str]:
    """What names a version: "release 3 of pipeline flights (arm live)". Raises ConfigError, OSError: it can't be known."""
    store = release_place.opened(layout)
    try:
        found = [store.current(pipeline)[0] for pipeline in store.pipelines()]
        texts = (text for release in found if release for text in _naming(release, model, version))
        return list(dict.fromkeys(texts))
    finally:
        store.close()


def running(layout: Layout) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(Model, version) → where the releases that serve run it: the pipeline, and " (arm NAME)" unless it is the live one.

    Raises ConfigError.
    """
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for pipeline, served in sorted(broken_pipelines.look(layout).released.items()):
        arms = served.release.arms
        for name, arm in sorted(arms.items(), key=lambda one: one[0] != LIVE):
            for pair in arm.models.items():
                found.setdefault(pair, []).append((pipeline, "" if name == LIVE else f" (arm {name})"))
    return found


def _naming(release: Release, model: str, version: str) -> Iterator[str]:
    where = f"release {release.number} of pipeline {release.pipeline}"
    for name, arm in release.arms.items():
        if arm.models.get(model) == version:
            yield f"{where} (arm {name})"
    for label, versions in release.labels.items():
        if versions.get(model) == version:
            yield f"{where} (label {label})"


def unknown(layout: Layout, documents: Iterable[Pipeline]) -> list[Problem]:
    """Each version or label that a document names and that stands for nothing: no version in the repository, no label in the
    pipeline's release or the repository. Raises ConfigError, OSError, RepositoryError."""
    store = release_place.opened(layout)
    repository = Repository(layout.models)
    try:
        found: list[Problem] = []
        for pipeline in documents:
            release = store.current(pipeline.name)[0]
            found += _unknown(pipeline, repository, release.labels if release else {})
        return found
    finally:
        store.close()


def _unknown(
    pipeline: Pipeline, repository: Repository, labels: Mapping[str, Mapping[str, str]]
) -> Iterator[Problem]:
    there = set(repository.models())
    for i, stage in enumerate(pipeline.stages):
        for model, version in kind_of(stage).models(stage).items():
            if not version or model not in there:
                continue  # another check names a model that is not there
            own = [label for label, versions in labels.items() if model in versions]
            names = [*repository.versions(model), *own, *repository.labels(model)]
            if version not in names:
                message = (
                    f"model {model!r} has no version or label {version!r}{suggestion(version, names)}; to make the label: "
                    f"headrace release label {pipeline.name} {version} {model}:VERSION"
                )
                yield pipeline.source.problem(f"stages[{i}].version", message)
