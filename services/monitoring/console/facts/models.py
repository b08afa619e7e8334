"""The model repository for the pages: versions, who signed them, what they came from, and which releases name them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.releases import Release, ReleaseStore
from headrace.releases.changes import KnownModels
from headrace.repository import AbsentError, BadNameError, Metadata, Repository, RepositoryError, Trust
from headrace.repository.model_index import Indexes
from headrace.repository.records import Records

# Verified versions that are remembered; to verify one, its files are read.
_REMEMBERED = 512


class ModelFacts:
    """Reads the repository; methods block. What can't be read or trusted is said beside the rest, never left out.

    `keys`: public keys that are trusted; none: signatures are not checked here, and the pages say so. `state`: the executors'.
    """

    def __init__(
        self, root: Path, keys: tuple[Path, ...], state: Path | None, store: ReleaseStore, index: Indexes
    ) -> None:
        self._plain = Repository(root, index=index)
        self._trusted = Repository(root, trust=Trust(keys=keys), index=index) if keys else None
        self._root = root
        self._records = Records(state) if state is not None else None
        self._store = store
        # Stamp → who signed it, or why it is not trusted.
        self._verified: dict[str, dict[str, Any]] = {}

    def all(self) -> list[dict[str, Any]]:
        """Every model with its versions, newest first. Raises OSError."""
        used, quarantined = self._used(), self._quarantined()
        try:
            names = self._plain.models() if self._root.is_dir() else []
        except RepositoryError as error:
            raise OSError(error.problem) from error
        return [self._model(name, used, quarantined) for name in names]

    def one(self, model: str, version: str) -> dict[str, Any] | None:
        """One version with its lineage; None: there is no such version. Raises OSError."""
        try:
            if version not in self._plain.versions(model):
                return None
            about = self._plain.metadata(model, version)
        except (AbsentError, BadNameError):
            return None
        except RepositoryError as error:
            return {"model": model, "version": version, "problem": str(error)}
        row = self._version(model, version, self._used(), self._quarantined())
        return {
            **row,
            **_described(about),
            **self._children(model, version),
            "signature": self._signature(model, version),
        }

    def missing(self, release: Release) -> list[str]:
        """What a release names that is not in the repository, or in quarantine. Raises OSError."""
        quarantined = self._quarantined()
        found = []
        for name, arm in release.arms.items():
            for model, version in arm.models.items():
                try:
                    there = version in self._plain.versions(model)
                except RepositoryError as error:
                    raise OSError(error.problem) from error
                if not there:
                    found.append(f"arms.{name}.models.{model}: there is no version {version} any more")
                elif f"{model}:{version}" in quarantined:
                    found.append(f"arms.{name}.models.{model}: version {version} is in quarantine")
        return found

    def known(self) -> KnownModels:
        """What changes are checked against, as `headrace release` checks them. Raises OSError."""
        unusable = {}
        for key, problem in self._quarantined().items():
            model, _, version = key.partition(":")
            unusable[model, version] = f"it is in quarantine ({problem or 'see: headrace models list'})"
        try:
            names = self._plain.models() if self._root.is_dir() else []
            return KnownModels({name: self._plain.versions(name) for name in names}, {}, unusable)
        except RepositoryError as error:
            raise OSError(error.problem) from error

    def _model(self, name: str, used: Mapping[str, list[str]], bad: Mapping[str, str]) -> dict[str, Any]:
        problem, versions, labels = "", [], {}
        reader = self._trusted or self._plain
        try:
            versions, labels = reader.versions(name), reader.labels(name)
        except RepositoryError as error:
            problem = error.problem
        rows = [self._version(name, version, used, bad) for version in reversed(versions)]
        for row in rows:
            row["labels"] = [label for label, version in labels.items() if version == row["version"]]
        return {"model": name, "versions": rows, "problem": problem or None}

    def _version(
        self, model: str, version: str, used: Mapping[str, list[str]], bad: Mapping[str, str]
    ) -> dict[str, Any]:
        key = f"{model}:{version}"
        return {
            "model": model,
            "version": version,
            "used_by": used.get(key, []),
            "quarantine": bad.get(key),
            "labels": [],
        }

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

    def _children(self, model: str, version: str) -> dict[str, Any]:
        """Versions of this model that name it as a parent."""
        name, found = f"{model}:{version}", []
        for other in self._plain.versions(model):
            try:
                parents = self._plain.metadata(model, other).lineage.get("parents")
            except RepositoryError:
                continue
            if isinstance(parents, list) and name in parents:
                found.append({"model": model, "version": other})
        return {"children": found}

    def _used(self) -> dict[str, list[str]]:
        """MODEL:VERSION → where current releases name it."""
        found: dict[str, list[str]] = {}
        for pipeline in self._store.pipelines():
            release, _ = self._store.current(pipeline)
            for name, arm in release.arms.items() if release else ():
                for model, version in arm.models.items():
                    found.setdefault(f"{model}:{version}", []).append(f"{pipeline} · {name}")
        return found

    def _quarantined(self) -> dict[str, str]:
        if self._records is None:
            return {}
        return {key: str(about.get("problem") or "") for key, about in self._records.quarantined().items()}


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
