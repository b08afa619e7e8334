"""Making a document and versions of models live, at once; labels; the switch that keeps automation away from one pipeline."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.pipeline import Pipeline
from headrace.pipeline.problems import suggestion
from headrace.releases.catalog import pinned
from headrace.releases.changes.basis import Basis
from headrace.releases.changes.models import KnownModels, pins, resolved
from headrace.releases.document import LIVE, Arm, Release, Scalar
from headrace.releases.errors import ReleaseError

Settings = Mapping[str, Mapping[str, Scalar]]


def arm_of(
    basis: Basis,
    pipeline: Pipeline,
    known: KnownModels,
    *,
    name: str,
    models: Mapping[str, str],
    label: str = "",
    settings: Settings | None = None,
) -> Arm:
    """An arm that runs a document. `models`: model → version or label, of those that the caller chooses. Raises ReleaseError."""
    labels = basis.release.labels if basis.release else {}
    versions = pins(pipeline, models, label, known, labels, f"arms.{name}")
    arm = Arm(version=pipeline.version, revision=pipeline.revision, models=versions, settings=settings or {})
    pinned(pipeline, arm, f"arms.{name}")  # whether the stages take the settings
    return arm


def deployed(basis: Basis, arm: Arm, name: str = LIVE) -> Release:
    """The release with this arm in place of the one of that name. A new arm gets no rows, until a rule, a rollout or weights
    give it some. Raises ReleaseError."""
    current = basis.release
    if current is None:
        if name != LIVE:
            raise ReleaseError(basis.pipeline, [f"arms: the first release must have the arm {LIVE!r}"])
        return basis.next(f"deploy version {arm.version}", arms={LIVE: arm})
    if name == LIVE or (current.rollout and name == current.rollout.arm):
        basis.refuse_rollout(f"a deployment to the arm {name!r}")
    if current.experiment and name in current.experiment.arms:
        basis.refuse_experiment(f"a deployment to the arm {name!r}")
    where = "" if name == LIVE else f" to the arm {name}"
    return basis.next(f"deploy version {arm.version}{where}", arms={**current.arms, name: arm})


def labelled(basis: Basis, label: str, model: str, version: str | None, known: KnownModels) -> Release:
    """Points a label at a version (a version or another label); None takes it away. Nothing goes live by it.

    Raises ReleaseError.
    """
    labels = {name: dict(versions) for name, versions in basis.current.labels.items()}
    if version is None:
        if model not in labels.get(label, {}):
            there = [name for name, versions in labels.items() if model in versions]
            problem = f"labels.{label}: there is no such label of model {model!r}{suggestion(label, there)}"
            raise ReleaseError(basis.pipeline, [problem])
        del labels[label][model]
        return basis.next(
            f"take the label {label} of {model} away", labels={n: v for n, v in labels.items() if v}
        )
    if label in known.versions.get(model, ()):
        problem = f"labels.{label}: this is a version of model {model!r}; choose another label"
        raise ReleaseError(basis.pipeline, [problem])
    found = resolved(model, version, known, labels) or version
    if problem := known.problem(model, found):
        raise ReleaseError(basis.pipeline, [f"labels.{label}.{model}: {problem}"])
    labels.setdefault(label, {})[model] = found
    return basis.next(f"{label} of {model} is version {found}", labels=labels)


def switched(basis: Basis, *, frozen: bool) -> Release:
    """Keeps automation away from this pipeline, or lets it go on. Raises ReleaseError: there is no release."""
    if basis.current.frozen == frozen:
        return basis.current
    return basis.next("freeze" if frozen else "end the freeze", frozen=frozen)
