"""A desired document, as it lies in git: `headrace release apply -f FILE`. Applying it twice changes nothing the second time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from headrace.pipeline import Pipeline
from headrace.pipeline.guards import GuardAction
from headrace.pipeline.problems import suggestion
from headrace.releases.changes.basis import ACTIVE, Basis
from headrace.releases.changes.differences import same_content
from headrace.releases.changes.models import KnownModels, resolved
from headrace.releases.changes.rollouts import CANDIDATE, Plan, without_holdback
from headrace.releases.document import LIVE, Release, RolloutState, digest, plain
from headrace.releases.errors import ReleaseError

# What the store and automation write.
GIVEN = ("number", "parent", "at", "author", "sha256", "applied", "restores")
_MADE = ("step", "state", "since", "started", "verdict")
_KEYS = tuple(name for name in Release.model_fields if name not in GIVEN)


def desired(release: Release) -> dict[str, Any]:
    """A release as a desired document: without what the store and automation write."""
    values = release.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    values = {key: value for key, value in values.items() if key not in (*GIVEN, "reason")}
    rollout = release.rollout
    if rollout is not None and rollout.state in ACTIVE:
        values["rollout"] = {k: v for k, v in values["rollout"].items() if k not in _MADE}
        values.pop("assign", None)
        if release.assign.by:
            values["assign"] = {"weights": {LIVE: 1.0}, "by": release.assign.by}
    else:
        values.pop("rollout", None)
    return values


def applied(
    basis: Basis,
    wanted: Mapping[str, Any],
    known: KnownModels,
    document: Callable[[str, Any], Pipeline],
    *,
    again: bool = False,
) -> Release | None:
    """The release that a desired document describes; None: it is in force, or was applied before and has since been changed by
    a rollout, a rollback or a person (`again`: then it is applied once more).

    `document(key, value)`: the pipeline document that an arm names by its key `document`. Raises ReleaseError.
    """
    values = plain({key: value for key, value in wanted.items() if value is not None})
    _refuse_keys(basis, values)
    declared: dict[str, Mapping[str, GuardAction]] = {}
    values["arms"] = {
        name: _arm(basis, f"arms.{name}", arm, known, values.get("labels", {}), document, declared)
        for name, arm in _mapping(basis, "arms", values.get("arms")).items()
    }
    mark = digest(json.loads(json.dumps(values)))
    current = basis.release
    if current is not None and current.applied == mark and not again:
        return None
    reason = str(values.pop("reason", ""))
    absent = dict.fromkeys(("rollout", "experiment", "shadow", "caps", "partition"))
    defaults = {"rules": (), "labels": {}, "frozen": False, "assign": {"weights": {LIVE: 1.0}}}
    changes = {**absent, **defaults, **values, "applied": mark}
    changes.pop("pipeline", None)
    if changes["rollout"] is not None:
        _begin_rollout(basis, changes, declared)
    basis = without_holdback(basis)
    basis.refuse_rollout("applying another document")
    made = basis.next(reason or "apply a document", **changes)
    return None if current is not None and same_content(current, made) and not again else made


def _refuse_keys(basis: Basis, values: Mapping[str, Any]) -> None:
    problems = [f"{key}: is given by the store; leave it out" for key in GIVEN if key in values]
    problems += [
        f"{key}: there is no such key{suggestion(str(key), _KEYS)}"
        for key in values
        if key not in _KEYS and key not in GIVEN
    ]
    if values.get("pipeline", basis.pipeline) != basis.pipeline:
        problems.append(f"pipeline: the document is that of {values['pipeline']!r}")
    if problems:
        raise ReleaseError(basis.pipeline, problems)


def _arm(
    basis: Basis,
    key: str,
    value: Any,
    known: KnownModels,
    labels: Any,
    document: Callable[[str, Any], Pipeline],
    declared: dict[str, Mapping[str, GuardAction]],
) -> dict[str, Any]:
    """An arm with its document's revision, and versions in place of labels. The document's guards are put into `declared`."""
    arm = dict(_mapping(basis, key, value))
    if "document" in arm:
        pipeline = document(f"{key}.document", arm.pop("document"))
        arm |= {"version": pipeline.version, "revision": pipeline.revision}
        declared[key] = pipeline.guards
    models = _mapping(basis, f"{key}.models", arm.get("models", {}))
    own = labels if isinstance(labels, Mapping) else {}
    # A version that does not exist stays as it is: the check of the whole release names it.
    arm["models"] = {m: resolved(m, str(v), known, own) or str(v) for m, v in models.items()}
    return arm


def _begin_rollout(
    basis: Basis, changes: dict[str, Any], declared: Mapping[str, Mapping[str, GuardAction]]
) -> None:
    """The weights of a rollout that begins, as `rollout start` would set them."""
    rollout = dict(_mapping(basis, "rollout", changes["rollout"]))
    made = [key for key in _MADE if key in rollout]
    if made:
        raise ReleaseError(basis.pipeline, [f"rollout.{made[0]}: is kept by the rollout; leave it out"])
    arm = str(rollout.setdefault("arm", CANDIDATE))
    rules = {"guards": dict(_mapping(basis, "rollout.guards", rollout.get("guards", {})))}
    rollout["guards"] = Plan(rules=rules, declared=declared.get(f"arms.{arm}", {})).guards
    ladder = rollout.get("ladder") or [0.01]
    share = ladder[0] if isinstance(ladder, list) and isinstance(ladder[0], int | float) else 0.01
    assign = dict(_mapping(basis, "assign", changes["assign"]))
    if assign.get("weights") not in (None, {LIVE: 1.0}, {LIVE: 1}):
        problem = "assign.weights: a rollout sets the weights; leave them out"
        raise ReleaseError(basis.pipeline, [problem])
    assign["weights"] = {LIVE: 1 - share, arm: share} if share < 1 else {arm: 1.0}
    assign.setdefault("salt", f"{basis.pipeline}-{basis.newest + 1}")
    changes |= {"assign": assign, "rollout": {**rollout, "state": RolloutState.RUNNING}}


def _mapping(basis: Basis, key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ReleaseError(basis.pipeline, [f"{key}: needs a mapping"])
    return value
