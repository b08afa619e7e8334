"""Which versions of models releases run, and which documents name that do not exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from headrace.cli.diagnosis import broken_pipelines
from headrace.cli.installation import control_place
from headrace.cli.installation.layout import Layout
from headrace.pipeline import Pipeline, Problem, kind_of
from headrace.pipeline.problems import suggestion
from headrace.releases import LIVE
from headrace.repository import Repository


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


def unknown(layout: Layout, documents: Iterable[Pipeline]) -> list[Problem]:
    """Each version or label that a document names and that stands for nothing: no version in the repository, no label in the
    pipeline's release or the repository. Raises ConfigError, OSError, RepositoryError."""
    store = control_place.releases(layout)
    repository = control_place.models(layout)
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
