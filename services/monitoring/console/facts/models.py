"""The model repository for the pages: versions, who signed them, what they came from, and which releases name them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from headrace.releases import Arm
from headrace.releases.changes import KnownModels
from headrace.releases.changes.rollback import arm_rolled_back
from headrace.releases.known_models import known_models
from headrace.releases.of_records import RecordReleases
from headrace.repository import Metadata, Repository, RepositoryError, Trust
from headrace.repository.model_index import recorded

# Verified versions that are remembered; to verify one, its files are read.
_REMEMBERED = 512
Places: TypeAlias = Mapping[str, list[str]]


class ModelFacts:
    """Reads the repository; methods block. What can't be trusted is said beside the rest, never left out.

    `keys`: public keys that are trusted; none: signatures are not checked here, and the pages say so. `state`: the executors'.
    """

    def __init__(self, root: Path, keys: tuple[Path, ...], state: Path | None, store: RecordReleases) -> None:
        index = recorded(store.records)
        self._plain = Repository(root, index=index)
        self._trusted = Repository(root, trust=Trust(keys=keys), index=index) if keys else None
        self._root, self._state, self._store = root, state, store
        # Stamp → who signed it, or why it is not trusted.
        self._verified: dict[str, dict[str, Any]] = {}

    def all(self) -> list[dict[str, Any]]:
        """Every model with its versions, newest first. `problem`: why a model can't be listed. Raises OSError."""
        unreadable: dict[str, str] = {}
        known, used = self.known(unreadable), self._used()
        rows = [
            {"model": model, "versions": [_row(known, *used, model, one) for one in reversed(versions)]}
            for model, versions in known.versions.items()
        ]
        rows += [{"model": model, "versions": [], "problem": why} for model, why in unreadable.items()]
        return sorted(rows, key=lambda row: str(row["model"]))

    def one(self, model: str, version: str) -> dict[str, Any] | None:
        """One version with its lineage; None: there is no such version. Raises OSError."""
        known = self.known({})
        if version not in known.versions.get(model, ()):
            return None
        try:
            about = self._plain.metadata(model, version)
        except RepositoryError as error:
            return {"model": model, "version": version, "problem": str(error)}
        return {
            **_row(known, *self._used(), model, version),
            **_described(about),
            "children": self._children(model, version, known.versions[model]),
            "signature": self._signature(model, version),
        }

    def known(self, unreadable: dict[str, str] | None = None) -> KnownModels:
        """What changes are checked against, as `headrace release` checks them. `unreadable`: takes models that can't be listed.
        Raises OSError."""
        try:
            return known_models(self._root, self._state, self._store.records, unreadable)
        except RepositoryError as error:
            raise OSError(error.problem) from error

    def _signature(self, model: str, version: str) -> dict[str, Any]:
        """Verifies the files of a version, once for each content."""
        if self._trusted is None:
            return {
                "state": "not checked",
                "sentence": "No public key is set here (console.model_keys), so nothing is verified.",
            }
        stamp = hashlib.sha256(
            f"{model}\0{version}\0{self._plain.stamp(model, version)}".encode()
        ).hexdigest()
        if stamp in self._verified:
            return self._verified[stamp]
        try:
            artifact = self._trusted.examine(model, version)
        except RepositoryError as error:
            # Not remembered: it may be mended.
            return {"state": "not trusted", "sentence": error.problem}
        found = {
            "state": "verified",
            "signer": artifact.signer,
            "sentence": f"Metadata and files are signed by key {artifact.signer[:16]}, which is trusted here.",
        }
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[stamp] = found
        return found

    def _children(self, model: str, version: str, others: Sequence[str]) -> list[dict[str, str]]:
        """Versions of this model that name it as a parent."""
        name, found = f"{model}:{version}", []
        for other in others:
            try:
                parents = self._plain.metadata(model, other).lineage.get("parents")
            except RepositoryError:
                continue
            if isinstance(parents, list) and name in parents:
                found.append({"model": model, "version": other})
        return found

    def _used(self) -> tuple[Places, Places]:
        """MODEL:VERSION → where current releases name it, and where it was rolled back and is not live again."""
        found: dict[str, list[str]] = {}
        bad: dict[str, list[str]] = {}
        for pipeline in self._store.pipelines():
            history = self._store.history(pipeline)
            for name, arm in history[0].arms.items() if history else ():
                for use in _uses(arm):
                    found.setdefault(use, []).append(f"{pipeline} · {name}")
            for after, before in pairwise(history):
                gone = arm_rolled_back(before, after)
                for use in _uses(gone) - _uses(history[0].live) if gone else ():
                    bad.setdefault(use, []).append(f"{pipeline}, by release {after.number}")
        return found, bad


def _uses(arm: Arm) -> set[str]:
    return {f"{model}:{version}" for model, version in arm.models.items()}


def _row(known: KnownModels, used: Places, bad: Places, model: str, version: str) -> dict[str, Any]:
    return {
        "model": model,
        "version": version,
        "used_by": used.get(f"{model}:{version}", []),
        "rolled_back": bad.get(f"{model}:{version}", []),
        "quarantine": known.unusable.get((model, version)),
        "labels": [label for label, models in known.labels.items() if models.get(model) == version],
    }


def _described(about: Metadata) -> dict[str, Any]:
    lineage = dict(about.lineage)
    parents = lineage.pop("parents", [])
    names = [str(p).partition(":") for p in parents] if isinstance(parents, list) else []
    return {
        "backend": about.backend,
        "sha256": about.sha256,
        "inputs": [str(tensor) for tensor in about.inputs],
        "outputs": [str(tensor) for tensor in about.outputs],
        "metrics": dict(about.metrics),
        "trained_on": about.trained_on,
        "parents": [{"model": model, "version": version} for model, _, version in names],
        "lineage": lineage,
        "has_baseline": bool(about.baseline),
    }
