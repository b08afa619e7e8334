"""Adds a model version to a repository. Readers never see an incomplete version."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.repository import version_list as lists
from headrace.repository.access_log import AccessLog, record
from headrace.repository.errors import RepositoryError
from headrace.repository.metadata import Metadata, TensorSpec
from headrace.repository.names import check_name
from headrace.repository.repository import METADATA, SIGNATURE
from headrace.repository.signing import signatures
from headrace.repository.signing.trust import Trust
from headrace.repository.storage.store import Store, open_store
from headrace.repository.version_list import VERSION_LIST, VersionList


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
    log: AccessLog | None = None,
) -> Metadata:
    """Writes `<root>/<name>/<version>/` with the artifact and its metadata; the folder appears in one step.

    `files`: further files that belong to the version. `key`: private key (PEM) to sign with; without it the version is
    unsigned. Raises RepositoryError if the version already exists (a published version never changes), if the name
    differs from another model's only in upper and lower case, or if the model's list is signed and no key is given.
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
    record(log, "added", name, version, sha256=about.sha256, signer=signer_id(key))
    return about


def _write(store: Store, about: Metadata, written: Mapping[str, bytes], key: Path | None) -> None:
    described = about.to_json()
    _check_distinct(store, about)
    with store.lock(about.name):
        listing = editable(store, about.name, key)
        signature = {}
        if key is not None:
            signature = {SIGNATURE: signed(about.name, {**written, METADATA: described}, key)}
        try:
            # The metadata is written last: in an object store files appear one by one, and readers look for this file.
            store.create(f"{about.name}/{about.version}", {**written, **signature, METADATA: described})
        except FileExistsError:
            raise RepositoryError(
                about.name, about.version, "is published already", "choose a new version"
            ) from None
        save(store, listing.with_version(about.version, hashlib.sha256(described).hexdigest()), key)


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


def editable(store: Store, model: str, key: Path | None, trusted: Sequence[Path] = ()) -> VersionList:
    """The list of versions, to be changed and saved with `key`.

    A list is signed again only if its present signature is valid and made with the same key or one of `trusted`. An unsigned
    list is replaced by an empty one. So no unsigned content becomes signed. Raises RepositoryError, OSError.
    """
    try:
        content = store.read(f"{model}/{VERSION_LIST}", lists.MAX_BYTES)
    except FileNotFoundError:
        return VersionList(model) if key else _found(store, model)
    listing, signature = lists.parse(content, model)
    if key is None:
        if signature is not None:
            problem, remedy = "its list of versions is signed", "name the private key to sign it with: --key"
            raise RepositoryError(model, "", problem, remedy)
        return listing
    if signature is None:
        return VersionList(model, listing.serial)
    Trust((key, *trusted)).version_list(listing, signature)
    return listing


def _found(store: Store, model: str) -> VersionList:
    """A list of the versions in the folder, for models published before lists of versions existed."""
    listing = VersionList(model)
    try:
        folders = store.folders(model)
    except FileNotFoundError:
        return listing
    for version in folders:
        if METADATA in store.files(f"{model}/{version}"):
            content = store.read(f"{model}/{version}/{METADATA}")
            listing = listing.with_version(version, hashlib.sha256(content).hexdigest())
    return listing


def save(store: Store, listing: VersionList, key: Path | None) -> None:
    """Writes the list, signed if there is a key. Raises RepositoryError, OSError."""
    signature = None if key is None else signed(listing.model, {VERSION_LIST: listing.content()}, key)
    store.replace(f"{listing.model}/{VERSION_LIST}", lists.to_file(listing, signature))


def signed(model: str, files: Mapping[str, bytes], key: Path) -> bytes:
    """The signature of `files`. Raises RepositoryError."""
    try:
        return signatures.sign(model, files, key)
    except signatures.SignatureError as error:
        raise RepositoryError(model, "", str(error), "make a key with: headrace models keys") from error


def signer_id(key: Path | None) -> str:
    """Id of the signing key; empty if there is none. Raises RepositoryError."""
    try:
        return "" if key is None else signatures.key_id(signatures.public_key(key))
    except signatures.SignatureError as error:
        raise RepositoryError("", "", str(error), "make a key with: headrace models keys") from error
