"""Which versions of models there are, and which of them an arm is pinned to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.pipeline import ModelSignature, Pipeline, kind_of
from headrace.pipeline.checks.offline import model_misfits
from headrace.pipeline.problems import suggestion
from headrace.releases.document import Release
from headrace.releases.errors import ReleaseError

Labels = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class KnownModels:
    """What is in the model repository. `versions`: of each model, oldest first; `labels`: of the repository, label → model →
    version; `unusable`: (model, version) → why no executor takes it; `signature`: what a version takes and gives, if known."""

    versions: Mapping[str, Sequence[str]]
    labels: Labels = field(default_factory=dict)
    unusable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    signature: Callable[[str, str], ModelSignature | None] = lambda _model, _version: None

    def problem(self, model: str, version: str) -> str:
        """Why this version can't be released; empty: it can."""
        there = self.versions.get(model, ())
        if not there:
            return f"there is no model {model!r}{suggestion(model, self.versions)}"
        if version not in there:
            return f"model {model!r} has no version {version!r} (there are: {', '.join(there)})"
        why = self.unusable.get((model, version))
        return f"version {version!r} of model {model!r} can't be used: {why}" if why else ""


def models_run(pipeline: Pipeline) -> dict[str, set[str]]:
    """Each model that its stages run, with the versions that they name."""
    found: dict[str, set[str]] = {}
    for stage in pipeline.stages:
        for model, version in kind_of(stage).models(stage).items():
            found.setdefault(model, set()).update({version} if version else ())
    return found


def pins(
    pipeline: Pipeline, wanted: Mapping[str, str], label: str, known: KnownModels, labels: Labels, key: str
) -> dict[str, str]:
    """The version of each model that the pipeline runs: the `wanted` one (a version or a label), that of `label`, the one that
    the document names, or the newest. `labels`: of the release; those of the repository count too.

    Raises ReleaseError; the keys are below `key`, such as `arms.live`.
    """
    runs = models_run(pipeline)
    problems = [
        f"{key}.models.{model}: the pipeline does not run model {model!r}{suggestion(model, runs)}"
        for model in wanted
        if model not in runs
    ]
    if label:
        problems += _label_problems(pipeline, label, runs, known, labels, key)
    found: dict[str, str] = {}
    for model, named in runs.items():
        version, problem = _pin(model, named, wanted.get(model, ""), label, known, labels)
        if problem:
            problems.append(f"{key}.models.{model}: {problem}")
        found[model] = version
    if problems:
        raise ReleaseError(pipeline.name, problems)
    return found


def resolved(model: str, name: str, known: KnownModels, labels: Labels) -> str:
    """The version that `name` stands for: a version, else a label of the release, else one of the repository; "": none."""
    if name in known.versions.get(model, ()):
        return name
    return labels.get(name, {}).get(model, "") or known.labels.get(name, {}).get(model, "")


def model_problems(release: Release, known: KnownModels) -> Iterator[str]:
    """Each version that an arm or a label names and that can't be released."""
    for name, arm in release.arms.items():
        for model, version in arm.models.items():
            if problem := known.problem(model, version):
                yield f"arms.{name}.models.{model}: {problem}"
    for label, versions in release.labels.items():
        for model, version in versions.items():
            if problem := known.problem(model, version):
                yield f"labels.{label}.{model}: {problem}"


def pin_problems(arm: str, pipeline: Pipeline, models: Iterable[str]) -> Iterator[str]:
    """Models of the pipeline that an arm does not pin, and models that it pins in vain."""
    runs = models_run(pipeline)
    pinned = set(models)
    for model in runs:
        if model not in pinned:
            yield f"arms.{arm}.models: names no version of {model!r}, which the pipeline runs"
    for model in sorted(pinned - runs.keys()):
        yield f"arms.{arm}.models.{model}: the pipeline does not run it{suggestion(model, runs)}"


def signature_problems(
    arm: str, pipeline: Pipeline, models: Mapping[str, str], known: KnownModels
) -> Iterator[str]:
    """Where a pinned version does not take what the document gives it, or does not give what the document declares. `models`:
    model → version."""
    signatures = {model: known.signature(model, version) for model, version in models.items()}
    for run, misfit in model_misfits(pipeline, {m: s for m, s in signatures.items() if s is not None}):
        key = f"arms.{arm}.models" + (f".{run[0]}" if len(run) == 1 else "")
        versions = ", ".join(f"{model} {models[model]}" for model in run)
        yield f"{key}: {versions} does not fit the document: {misfit}"


def _pin(
    model: str, named: set[str], wanted: str, label: str, known: KnownModels, labels: Labels
) -> tuple[str, str]:
    """(version, problem) of one model."""
    name = wanted or (label if resolved(model, label, known, labels) else "")
    if not name and len(named) > 1:
        both = " and ".join(repr(v) for v in sorted(named))
        return "", f"stages of the document name the versions {both}; say which: --models {model}=VERSION"
    name = name or next(iter(named), "")
    there = known.versions.get(model, ())
    if not name:
        if not there:
            return "", known.problem(model, "") + f"; add it: headrace models add {model} FILE"
        # The newest that can be used.
        usable = [v for v in there if not known.problem(model, v)]
        return (usable or list(there))[-1], "" if usable else known.problem(model, there[-1])
    version = resolved(model, name, known, labels)
    if not version:
        names = sorted({*there, *(n for n, at in {**known.labels, **labels}.items() if model in at)})
        missing = f"there is no version or label {name!r} of model {model!r}{suggestion(name, names)}"
        return "", missing if there else known.problem(model, name)
    return version, known.problem(model, version)


def _label_problems(
    pipeline: Pipeline, label: str, runs: Iterable[str], known: KnownModels, labels: Labels, key: str
) -> list[str]:
    if any(resolved(model, label, known, labels) for model in runs):
        return []
    names = {**known.labels, **labels}
    hint = suggestion(label, names)
    return [f"{key}.models: no model of pipeline {pipeline.name} has the label {label!r}{hint}"]
