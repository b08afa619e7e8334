"""`headrace encryption new`, `rotate` and `rewrap`: keys, a new version of them, and old files that it opens."""

from __future__ import annotations

import secrets
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headrace.cli.commands.encryption.place import Keys, away_told, keys_of, record
from headrace.cli.console import DEFAULT_HOME, Home, command, err, fail, out, place
from headrace.encryption import DamagedError, KeysAwayError, LockedError, Store
from headrace.encryption.kms.file_kms import FileKms, make

_SHOWN = 5


def new(
    file: Annotated[
        Path, typer.Argument(help="Where the keys are written, for their owner alone.", dir_okay=False)
    ],
) -> None:
    """Make a file of keys without a home, such as for a Secret of Kubernetes. A home gets its own by `headrace up --encrypt`."""
    if file.exists():
        fail(f"{file} exists; to make a new version in it: {command()} encryption rotate --keys {file}")
    with away_told():
        make(file, f"headrace-{secrets.token_hex(4)}")
        version = FileKms(file).current()
    out.print(f"[green]{version}[/] is in {file}; keep a copy elsewhere", soft_wrap=True)


def rotate(
    home: Home = DEFAULT_HOME,
    file: Annotated[
        Path | None,
        typer.Option("--keys", help="A file of keys that is no home's.", dir_okay=False, exists=True),
    ] = None,
) -> None:
    """Make a new version of the key. New files are sealed with it; the older versions still open the others."""
    if file is not None:
        with away_told():
            out.print(f"[green]{FileKms(file).rotate()}[/] is the current key in {file}", soft_wrap=True)
        return
    layout = place(home)
    keys = keys_of(layout)
    with away_told():
        record(layout, "rotated", keys=keys.where)
        version = keys.sealer.keys.kms.rotate()
    out.print(f"[green]{version}[/] is the current key", soft_wrap=True)
    out.print(
        f"services that run seal with it within {keys.settings.renew_s:g} s; keep a copy of {keys.where} where the home's backups"
        " are not",
        markup=False,
        soft_wrap=True,
    )
    out.print(f"→ {command()} encryption rewrap", style="bold", soft_wrap=True)


def rewrap(home: Home = DEFAULT_HOME) -> None:
    """Give old files a header of the current version. It may be stopped and begun again; services may run.

    What was sealed is not read. Exit code 1 if a file could not be done now.
    """
    layout = place(home)
    keys = keys_of(layout)
    with away_told():
        current = keys.sealer.keys.kms.current()
        record(layout, "rewrapped", version=current)
        counts, troubles = _rewrapped(keys)
    out.print(
        f"[green]{counts['done']}[/] files are rewrapped for {current}; {counts['current']} needed nothing",
        soft_wrap=True,
    )
    for text in troubles[:_SHOWN]:
        err.print(text, style="red", markup=False, soft_wrap=True)
    if len(troubles) > _SHOWN:
        err.print(
            f"and {len(troubles) - _SHOWN} more: {command()} encryption status", style="dim", markup=False
        )
    if counts["busy"]:
        err.print(
            f"{counts['busy']} files are being written now; do this again in some minutes",
            style="yellow",
            markup=False,
        )
    if troubles or counts["busy"]:
        raise typer.Exit(1)
    out.print(f"→ {command()} encryption status", style="bold", soft_wrap=True)


def _rewrapped(keys: Keys) -> tuple[Counter[str], list[str]]:
    """How many files were done, needed nothing, are in use; and what is wrong with others. Raises KeysAwayError."""
    counts: Counter[str] = Counter()
    troubles: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        for store in keys.stores:
            files = store.files()
            for path in progress.track(files, description=store.name):
                try:
                    counts[_one(keys, store, path)] += 1
                except (LockedError, DamagedError) as error:
                    troubles.append(f"{path}: {error}")
                except KeysAwayError:
                    raise
                except OSError as error:
                    troubles.append(f"{path}: {error.strerror}")
    return counts, troubles


def _one(keys: Keys, store: Store, path: Path) -> str:
    try:
        return "done" if store.rewrap(path, keys.sealer) else "current"
    except FileNotFoundError:
        return "gone"
    except BlockingIOError:
        return "busy"
