"""Making a document and versions of models live, at once; labels; the switch that keeps automation away from one pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headrace.pipeline import Pipeline
from headrace.pipeline.problems import suggestion
from headrace.releases.catalog import pinned
from headrace.releases.changes.basis import Basis
from headrace.releases.changes.checks import Documents, checked
from headrace.releases.changes.models import KnownModels, pins, resolved
from headrace.releases.changes.rollouts import (
    CANDIDATE,
    holdback_plan,
    rollout_started,
    without_holdback,
    without_idle,
)
from headrace.releases.document import LIVE, Arm, Release, Scalar
from headrace.releases.errors import ReleaseError
from headrace.releases.store import Freeze

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


@dataclass(frozen=True, slots=True)
class HoldbackContext:
    """What tells whether the old live arm can serve beside a new one. `freeze`: of all pipelines."""

    documents: Documents
    known: KnownModels
    now: datetime
    freeze: Freeze | None


def deployed(basis: Basis, arm: Arm, name: str = LIVE) -> Release:
    """The release with this arm in place of the one of that name. A new arm gets no rows, until a rule, a rollout or weights
    give it some. Raises ReleaseError."""
    if name == LIVE:
        basis = without_holdback(basis)
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
    changes: dict[str, Any] = {"arms": {**current.arms, name: arm}}
    if name == LIVE:
        arms = {**without_idle(current), LIVE: arm}
        weights = {arm: weight for arm, weight in current.assign.weights.items() if arm in arms}
        starts = {arm: at for arm, at in current.assign.starts.items() if arm in arms}
        changes = {
            "arms": arms,
            "assign": {**current.assign.model_dump(), "weights": weights, "starts": starts},
        }
    return basis.next(f"deploy version {arm.version}{where}", **changes)


def with_holdback(basis: Basis, arm: Arm, name: str, holdback: HoldbackContext | None) -> tuple[Release, str]:
    """As `deployed`, but the old live arm keeps some rows for an hour, so that both are compared, if it can: it answers the same
    requests, can be served, no rule or shadow tells it from the new one, and nothing is frozen. None: it is not wanted.

    Returns the release, and in one line why there is no holdback; empty: there is one. Raises ReleaseError, OSError.
    """
    if name != LIVE:
        return deployed(basis, arm, name), f"the arm {name!r} gets no rows by it"
    if holdback is None:
        return deployed(basis, arm), "it is not wanted"
    if basis.release is None:
        return deployed(basis, arm), "there is no release before it"
    try:
        return _held_back(basis, arm, holdback), ""
    except ReleaseError as error:
        return deployed(basis, arm), error.problems[0]


def _held_back(basis: Basis, arm: Arm, holdback: HoldbackContext) -> Release:
    """Raises ReleaseError: it can't be."""
    current = without_holdback(basis).current
    if current is not basis.current and arm == basis.current.arms.get(CANDIDATE):
        return basis.current
    plan = holdback_plan(holdback.documents.guards(arm))
    users = {f"rules[{i}].arm": rule.arm for i, rule in enumerate(current.rules)}
    users |= {"shadow.arm": current.shadow.arm} if current.shadow else {}
    for key, used in users.items():
        if used in (LIVE, plan.name):
            raise ReleaseError(basis.pipeline, [f"{key}: it names the arm {used!r}"])
    made = rollout_started(basis, arm, plan, holdback.now, holdback.freeze)
    return checked(made, holdback.documents.text, holdback.known)


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
