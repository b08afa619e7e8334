"""Changes to a model's index at control. What others changed meanwhile is looked at and the change is worked out anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headrace.catalog.access import Change, Records, Write
from headrace.catalog.errors import RecordChangedError
from headrace.repository.errors import RepositoryError
from headrace.repository.metadata import Metadata
from headrace.repository.model_index import MODEL, ModelIndex, newest
from headrace.repository.names import check_name
from headrace.repository.storage.store import open_store


def add(records: Records, about: Metadata, actor: str) -> None:
    """Lists a version, whose files are published. Raises RepositoryError: it is listed with others; RecordsError."""
    _change(
        records, about.name, "add", actor, lambda index: index.with_version(about.version, about.digest())
    )


def label(records: Records, model: str, version: str, name: str, actor: str) -> None:
    """Points the label `name` at a version. A route may follow a label; setting one does not load anything.

    Raises RepositoryError: no such version; a version has this name. RecordsError.
    """
    _change(records, model, "label", actor, lambda index: index.with_label(name, version))


def unlabel(records: Records, model: str, name: str, actor: str) -> str:
    """Takes a label away; returns the version that it pointed at. Raises RepositoryError, RecordsError."""
    before = _change(records, model, "unlabel", actor, lambda index: index.without_label(name))
    return before.labels[name]


def remove(records: Records | None, root: Path | str, model: str, version: str, actor: str) -> None:
    """Removes a version for good. Only the audit remembers that its number was used: prefer a new number for a new version.

    `records` None: no control lists what is in `root`. Raises RepositoryError: no such version; a label points at it.
    RecordsError: also for one that a release that is live names.
    """
    check_name("version", version)
    store = open_store(root)
    try:
        there = version in store.folders(check_name("model", model))
    except FileNotFoundError:
        there = False
    # First from the index: a folder that is not listed does no harm, but a listed version without files fails to load.
    before = ModelIndex(model)
    if records is not None:
        before = _change(records, model, "remove", actor, lambda index: index.without_version(version))
    if not there and version not in before.versions:
        raise before.absent(version)
    try:
        if there:
            store.remove(f"{model}/{version}")
    except OSError as error:
        problem = f"its files can't be removed ({error.strerror or error})"
        raise RepositoryError(model, version, problem, "remove the folder by hand") from error


def _change(
    records: Records, model: str, action: str, actor: str, edit: Callable[[ModelIndex], ModelIndex]
) -> ModelIndex:
    """Returns what it was before."""
    while True:
        found, number = newest(records, model)
        before = found or ModelIndex(model)
        after = edit(before)
        if after == before:
            return before
        write = Write(MODEL, model, after.content(), number)
        try:
            records.change(Change(actor, f"model.{action}", model, [write]))
        except RecordChangedError:
            continue  # each time somebody else's change was made, so it ends
        return before
