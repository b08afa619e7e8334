"""Saying what a change does, asking, making it, and saying what comes next."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from headrace.cli.commands.releases.place import ReleasePlace
from headrace.cli.consent import agree
from headrace.cli.console import command, err, out
from headrace.cli.tables import headed_table
from headrace.releases import Release
from headrace.releases.changes import Basis, Documents, KnownModels, checked, differences
from headrace.releases.changes.differences import Difference
from headrace.repository import RepositoryError

_NONE = "—"


def commit(
    at: ReleasePlace,
    basis: Basis,
    release: Release | None,
    documents: Documents,
    *,
    note: str = "",
    next_steps: Iterable[str] = (),
    urgent: bool = False,
) -> None:
    """Makes `release` the current one, after the person has seen what changes and has agreed. None, or one that changes
    nothing: says so. `note`: what the person should know before that. `urgent`: a way back, which must also be open while the
    models can't be listed.

    Raises ReleaseError, OSError: nothing was changed.
    """
    changes = differences(basis.release, release) if release is not None else []
    if release is None or not changes:
        number = f" (release {basis.newest})" if basis.newest else ""
        out.print(f"{basis.pipeline}: nothing to change{number}", markup=False)
        return
    checked(release, documents.text, _known(at, urgent))
    title = f"release {release.number} of {release.pipeline}: {release.reason}"
    out.print(Text(title, style="bold"), soft_wrap=True)
    out.print(table(changes))
    if note:
        out.print(note, style="yellow", markup=False, soft_wrap=True)
    agree("", "Make it so?")
    at.store.commit(release, documents.new)
    out.print(f"[green]done[/]: release {release.number} of {release.pipeline} is current")
    for step in next_steps:
        out.print(f"  {command()} {step}", style="dim", markup=False, soft_wrap=True)


def _known(at: ReleasePlace, urgent: bool) -> KnownModels | None:
    try:
        return at.known()
    except RepositoryError as error:
        if not urgent:
            raise
        err.print(f"not compared with the models: {error}", style="yellow", markup=False, soft_wrap=True)
        return None


def table(changes: Iterable[Difference]) -> Table:
    """Key, before, after; what comes is green, what goes is red."""
    found = headed_table("key", "before", "after")
    for change in changes:
        before = Text(change.before, style="dim" if change.before == _NONE else "red")
        found.add_row(
            Text(change.key), before, Text(change.after, style="dim" if change.after == _NONE else "green")
        )
    return found
