"""Adds a model version to a repository. Readers never see an incomplete version."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.repository.errors import RepositoryError
from headrace.repository.metadata import Metadata, TensorSpec
from headrace.repository.names import check_name
from headrace.repository.repository import METADATA, SIGNATURE
from headrace.repository.signing import signatures
from headrace.repository.storage.store import Store, open_store


def publish(
    root: Path | str,
    name: str,
    version: str,
    content: bytes,
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    backend: str = "onnxruntime",
    metrics: Mapping[str, Any] | None = None,
    trained_on: Any = None,
    files: Mapping[str, bytes] | None = None,
    lineage: Mapping[str, Any] | None = None,
    baseline: Mapping[str, Any] | None = None,
    max_rows: int | None = None,
    extra: Mapping[str, Any] | None = None,
    key: Path | None = None,
) -> Metadata:
    """Writes `<root>/<name>/<version>/` with the artifact and its metadata; the folder appears in one step. No index lists it
    before `changes.add`.

    `files`: further files that belong to the version. `key`: private key (PEM) to sign with; without it the version is
    unsigned. Raises RepositoryError if the version already exists (a published version never changes), or if the name
    differs from another model's only in upper and lower case.
    """
    about = Metadata(
        name=check_name("model", name),
        version=check_name("version", version),
        backend=backend,
        sha256=hashlib.sha256(content).hexdigest(),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        metrics=metrics or {},
        trained_on=trained_on,
        files={check_name("file", n): hashlib.sha256(c).hexdigest() for n, c in (files or {}).items()},
        lineage=lineage or {},
        baseline=baseline or {},
        max_rows=max_rows,
        extra=extra or {},
    )
    written = {about.artifact: content, **(files or {})}
    if len(written) != 1 + len(files or {}) or {METADATA, SIGNATURE} & written.keys():
        raise RepositoryError(name, version, "a further file has a name that is taken", "rename it")
    try:
        _write(open_store(root), about, written, key)
    except OSError as error:
        problem = f"can't be written ({error.strerror or error})"
        raise RepositoryError(name, version, problem, "check disk and rights") from error
    return about


def _write(store: Store, about: Metadata, written: Mapping[str, bytes], key: Path | None) -> None:
    described = about.to_json()
    _check_distinct(store, about)
    signature = {}
    if key is not None:
        signature = {SIGNATURE: _signed(about.name, {**written, METADATA: described}, key)}
    try:
        # The metadata is written last: in an object store files appear one by one, and readers look for this file.
        store.create(f"{about.name}/{about.version}", {**written, **signature, METADATA: described})
    except FileExistsError:
        raise RepositoryError(
            about.name, about.version, "is published already", "choose a new version"
        ) from None


def _check_distinct(store: Store, about: Metadata) -> None:
    """Refuses a name that differs from an existing one only in case: on some file systems both would be the same folder."""
    for kind, name, folder in (("model", about.name, ""), ("version", about.version, about.name)):
        try:
            there = store.folders(folder)
        except FileNotFoundError:
            continue
        same = next((n for n in there if n != name and n.casefold() == name.casefold()), None)
        if same is not None:
            problem = f"there is a {kind} {same!r}, which differs in upper and lower case alone"
            raise RepositoryError(about.name, about.version, problem, "choose another name")


def _signed(model: str, files: Mapping[str, bytes], key: Path) -> bytes:
    """The signature of `files`. Raises RepositoryError."""
    try:
        return signatures.sign(model, files, key)
    except signatures.SignatureError as error:
        raise RepositoryError(model, "", str(error), "make a key with: headrace models keys") from error
