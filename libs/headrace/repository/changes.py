"""Changes to a published model: its labels, the removal of a version, another signing key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from headrace.repository.access_log import AccessLog, record
from headrace.repository.errors import RepositoryError
from headrace.repository.names import check_name
from headrace.repository.publication import editable, save, signer_id
from headrace.repository.storage.store import Store, open_store
from headrace.repository.version_list import VersionList


def label(
    root: Path | str,
    model: str,
    version: str,
    name: str,
    *,
    key: Path | None = None,
    log: AccessLog | None = None,
) -> None:
    """Points the label `name` at a version. A route may follow a label; setting one does not load anything.

    Raises RepositoryError: no such version; a version has this name; the list is signed and there is no `key`.
    """
    check_name("label", name)

    def change(listing: VersionList, store: Store) -> VersionList:  # noqa: ARG001 - all changes have one signature
        if version not in listing.versions:
            raise _no_such_version(listing, version)
        if name in listing.versions:
            raise RepositoryError(model, version, f"{name!r} is a version already", "choose another label")
        return listing.with_label(name, version)

    _change(root, model, change, key)
    record(log, "labelled", model, version, label=name, signer=signer_id(key))


def unlabel(
    root: Path | str, model: str, name: str, *, key: Path | None = None, log: AccessLog | None = None
) -> str:
    """Removes a label; returns the version that it pointed at. Raises RepositoryError."""
    pointed: list[str] = []

    def change(listing: VersionList, store: Store) -> VersionList:  # noqa: ARG001 - all changes have one signature
        if name not in listing.labels:
            there = ", ".join(sorted(listing.labels)) or "none"
            raise RepositoryError(
                model, "", f"there is no label {name!r} (there are: {there})", "name one of them"
            )
        pointed.append(listing.labels[name])
        return listing.without_label(name)

    _change(root, model, change, key)
    record(log, "unlabelled", model, pointed[0], label=name, signer=signer_id(key))
    return pointed[0]


def remove(
    root: Path | str, model: str, version: str, *, key: Path | None = None, log: AccessLog | None = None
) -> None:
    """Removes a version for good. Only the log remembers that its number was used: prefer a new number for a new version.

    Raises RepositoryError: no such version; a label points at it; the list is signed and there is no `key`.
    """
    check_name("version", version)

    def change(listing: VersionList, store: Store) -> VersionList:
        pointing = sorted(name for name, at in listing.labels.items() if at == version)
        if pointing:
            problem = f"the label {pointing[0]!r} points at it"
            raise RepositoryError(model, version, problem, "point it elsewhere first: headrace models label")
        if version not in listing.versions and version not in store.folders(model):
            raise _no_such_version(listing, version)
        return listing.without_version(version)

    # First remove it from the list: a folder that is not listed does no harm, but a listed version without files fails to load.
    store = _change(root, model, change, key)
    try:
        store.remove(f"{model}/{version}")
    except FileNotFoundError:
        pass
    except OSError as error:
        problem = f"its files can't be removed ({error.strerror or error})"
        raise RepositoryError(model, version, problem, "remove the folder by hand") from error
    record(log, "removed", model, version, signer=signer_id(key))


def resign(
    root: Path | str, model: str, key: Path, trusted: Sequence[Path], log: AccessLog | None = None
) -> None:
    """Signs the list of versions with another key. Its present signature must be by one of `trusted` (public keys).

    Versions keep their signatures: readers trust both keys until the old versions are gone. Raises RepositoryError.
    """
    # The serial is increased, so that a reader that remembers serials sees that this list is newer.
    _change(root, model, lambda listing, _: replace(listing, serial=listing.serial + 1), key, trusted)
    record(log, "resigned", model, "", signer=signer_id(key))


def _no_such_version(listing: VersionList, version: str) -> RepositoryError:
    there = ", ".join(listing.ordered()) or "none"
    problem = f"there is no such version (there are: {there})"
    return RepositoryError(listing.model, version, problem, "name one of them")


def _change(
    root: Path | str,
    model: str,
    change: Callable[[VersionList, Store], VersionList],
    key: Path | None,
    trusted: Sequence[Path] = (),
) -> Store:
    check_name("model", model)
    try:
        store = open_store(root)
        if model not in store.folders(""):
            raise RepositoryError(model, "", "there is no such model", "see: headrace models list")
        with store.lock(model):
            save(store, change(editable(store, model, key, trusted), store), key)
    except OSError as error:
        problem = f"can't be changed ({error.strerror or error})"
        raise RepositoryError(model, "", problem, "check disk and rights") from error
    return store
