"""`headrace backup FILE` and `headrace restore FILE`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from headrace.cli.backup import archive
from headrace.cli.console import DEFAULT_HOME, Home, command, err, fail, out, place, prepared
from headrace.hop.process.telemetry import build_version

_MIB = 1 << 20
File = Annotated[Path, typer.Argument(help="File of the backup.", dir_okay=False)]


def backup(file: File, home: Home = DEFAULT_HOME) -> None:
    """Write all that can't be made again into one file: releases, models, keys, tenants, features, audit, events, settings.

    The system may run. The file holds keys of callers and of signing, and is readable for its owner alone: keep it as you keep
    them. It is not encrypted: write it to an encrypted volume, or encrypt it before it leaves this machine.
    """
    layout = prepared(home)
    try:
        with _progress("backing up") as told:
            made = datetime.now(UTC).isoformat(timespec="seconds")
            manifest = archive.write(layout, file, made=made, version=build_version(), told=told)
    except archive.BackupError as error:
        fail(str(error))
    out.print(f"[green]{file}[/]: {len(manifest.files)} files, {manifest.total / _MIB:.1f} MiB")
    out.print(f"→ {command()} restore {file} --home NEW_HOME", style="bold", soft_wrap=True)


def restore(file: File, home: Home = DEFAULT_HOME) -> None:
    """Make an installation of a backup, in a home that is absent or empty. Every file is checked against the backup's list."""
    layout = place(home)
    try:
        with _progress("restoring") as told:
            manifest = archive.restore(file, layout.home, told)
    except archive.BackupError as error:
        fail(str(error))
    out.print(
        f"[green]{home}[/]: {len(manifest.files)} files of {manifest.made}, made by headrace {manifest.version}"
    )
    out.print(f"→ {command()} up --home {home}", style="bold", soft_wrap=True)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)
