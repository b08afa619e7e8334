"""`headrace encryption retire`: destroy a version of the key that nothing needs any more."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import typer

from headrace.cli.commands.encryption.place import Keys, away_told, keys_of, record
from headrace.cli.commands.encryption.view import needed
from headrace.cli.consent import agree
from headrace.cli.console import DEFAULT_HOME, Home, command, fail, out, place
from headrace.cli.installation.encryption import encryption_place
from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import daemon
from headrace.encryption.kms import check_retired
from headrace.encryption.kms.file_kms import FileKms
from headrace.hop.config import ConfigError

_WALL = time.time  # noqa: TID251 - the file says when a version was made


def retire(
    version: Annotated[str, typer.Argument(help="Such as headrace-1a2b3c4d/1; `status` shows them.")],
    home: Home = DEFAULT_HOME,
) -> None:
    """Destroy a version of the key. It can't be undone: backups that were made before `rewrap` need it."""
    layout = place(home)
    keys = keys_of(layout)
    with away_told():
        versions = keys.sealer.keys.kms.versions()
        try:
            check_retired(version, versions)
        except ValueError as error:
            fail(str(error))
        tallies = keys.tallies(versions)
        if _far(layout):
            fail(
                "segments of events in the object store may need it, and commands do not look there; keep it"
            )
        if count := needed(tallies)[version]:
            fail(f"{count} files need key {version}; first: {command()} encryption rewrap")
        if any(tally.damaged or tally.unreadable for tally in tallies.values()):
            fail(f"files that can't be read may need it; see: {command()} encryption status")
        if daemon.running(layout) and (left := _still_used_s(keys, versions)) > 0:
            fail(
                f"services that run may seal with key {version} for {left:.0f} s more, if they can't reach the keys;"
                f" wait, or first: {command()} down"
            )
    agree(f"key {version} is destroyed: backups from before `rewrap` can't be read without it")
    with away_told():
        record(layout, "retired", version=version, keys=keys.where)
        keys.sealer.keys.kms.retire(version)
    out.print(f"key {version} is destroyed", markup=False)
    out.print(f"→ {command()} backup FILE, as older backups need that key", style="bold", markup=False)


def _far(layout: Layout) -> bool:
    try:
        return encryption_place.has_far_segments(layout)
    except ConfigError as error:
        fail(str(error))


def _still_used_s(keys: Keys, versions: list[str]) -> float:
    """For how long a process may still have a data key of an older version in hand, in seconds."""
    kms = keys.sealer.keys.kms
    made = kms.made(versions[-1]) if isinstance(kms, FileKms) else ""
    longest = keys.settings.max_age_s
    try:
        return longest - (_WALL() - datetime.fromisoformat(made).timestamp())
    except ValueError:
        return longest
