"""`headrace encryption status`: which keys there are, and what needs them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from headrace.cli.commands.encryption.place import Keys, keys_of
from headrace.cli.console import DEFAULT_HOME, Home, command, err, out, place
from headrace.cli.installation.encryption import encryption_place
from headrace.cli.installation.layout import Layout
from headrace.encryption import KeysAwayError
from headrace.encryption.census import Tally
from headrace.hop.config import ConfigError

_COUNTS = ("files", "sealed", "plain", "locked", "damaged")
_STYLES = {"plain": "yellow", "locked": "red", "damaged": "red"}


def status(
    home: Home = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the versions of the key and how many files need each. Exit code 1 if a file can't be opened, or the keys are away."""
    layout = place(home)
    if _plain(layout):
        told: dict[str, Any] = {"keys": None, "away": "", "problem": None}
        told |= {"versions": [], "current": None, "stores": {}}
        print(json.dumps(told, indent=2)) if as_json else out.print(
            f"plain: nothing new is sealed here. To begin: {command()} down, then {command()} up --encrypt",
            markup=False,
        )
        return
    keys = keys_of(layout)
    away: KeysAwayError | None = None
    versions = list[str]()
    try:
        versions, tallies = keys.counted()
    except KeysAwayError as error:
        away, tallies = error, keys.tallies([])
    if as_json:
        print(json.dumps(_told(keys, versions, away, tallies), indent=2))
    else:
        _print(keys, versions, away, tallies)
    if away or any(tally.locked or tally.damaged or tally.unreadable for tally in tallies.values()):
        raise typer.Exit(1)


def _plain(layout: Layout) -> bool:
    try:
        return encryption_place.settings(layout) is None
    except ConfigError:
        return False  # `keys_of` tells it


def needed(tallies: Mapping[str, Tally]) -> Counter[str]:
    """How many files need each version."""
    found: Counter[str] = Counter()
    for tally in tallies.values():
        found.update(tally.by_version)
    return found


def _told(
    keys: Keys, versions: list[str], away: KeysAwayError | None, tallies: Mapping[str, Tally]
) -> dict[str, Any]:
    stores = {
        name: {
            **{count: getattr(tally, count) for count in (*_COUNTS, "unreadable")},
            "versions": dict(tally.by_version),
        }
        for name, tally in tallies.items()
    }
    current = versions[-1] if versions else None
    why = {"away": str(away), "problem": away.problem} if away else {"away": "", "problem": None}
    return {"keys": keys.where, **why, "versions": versions, "current": current, "stores": stores}


def _print(keys: Keys, versions: list[str], away: KeysAwayError | None, tallies: Mapping[str, Tally]) -> None:
    out.print(f"keys in {keys.where}", markup=False, soft_wrap=True)
    counts = needed(tallies)
    for version in sorted({*versions, *counts}, key=lambda v: (v not in versions, v)):
        here = "" if version in versions else "  not here" if not away else "  can't be reached"
        now = "  current" if versions and version == versions[-1] else ""
        out.print(
            Text(f"  {version:24} {counts[version]:7} files{now}{here}", style="red" if here else ""),
            soft_wrap=True,
        )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("what", *_COUNTS):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, tally in tallies.items():
        cells = [(count, getattr(tally, count)) for count in _COUNTS]
        table.add_row(name, *(Text(str(n), style=_STYLES.get(c, "") if n else "") for c, n in cells))
    out.print(table)
    if away:
        err.print("error:", style="bold red", end=" ")
        err.print(f"the keys can't be used: {away}", markup=False, soft_wrap=True)
    out.print(Text(f"→ {_next(versions, away, counts, tallies)}", style="bold"), soft_wrap=True)


def _next(
    versions: list[str], away: KeysAwayError | None, counts: Counter[str], tallies: Mapping[str, Tally]
) -> str:
    if away:
        return f"{away.problem.remedy} (runbook encryption-keys-away)"
    if any(tally.locked for tally in tallies.values()):
        return "put back a file of keys that has the versions that are not here (runbook encryption-locked)"
    if any(tally.damaged or tally.unreadable for tally in tallies.values()):
        return f"{command()} audit verify says what of the audit is altered"
    old = [version for version in versions[:-1] if not counts[version]]
    if any(counts[version] for version in versions[:-1]):
        return f"{command()} encryption rewrap"
    if old:
        return f"{command()} encryption retire {old[0]}"
    return f"{command()} encryption rotate, once a year or if a key may be known to others"
