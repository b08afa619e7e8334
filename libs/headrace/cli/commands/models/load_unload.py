"""`headrace models load` and `unload`: which versions the executors serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.commands.models import operator_calls, options
from headrace.cli.console import DEFAULT_HOME, Home, out, place
from headrace.repository.records import Records

OperatorKey = Annotated[
    Path | None,
    typer.Option("--key", help="File with the API key of an operator; operator.key of the home if absent."),
]


def load(
    model: Annotated[str, typer.Argument(help="NAME:VERSION or NAME:LABEL; NAME is its newest version.")],
    home: Home = DEFAULT_HOME,
    key: OperatorKey = None,
) -> None:
    """Have every executor load a version beside those that serve. Calls that name no version get it from then on, over
    restarts, too. No request fails by it."""
    layout = place(home)
    options.check_named(model)
    operator_calls.ask(layout, "load", model, key)
    name, _ = options.named(model)
    versions = Records(layout.executor_state).serving().get(name, [])
    said = f" version {versions[-1]}" if versions else ""
    out.print(f"{name}{said} serves", markup=False)


def unload(
    model: Annotated[str, typer.Argument(help="NAME:VERSION or NAME:LABEL; NAME is all of its versions.")],
    home: Home = DEFAULT_HOME,
    key: OperatorKey = None,
) -> None:
    """Have every executor take a version away: no new call finds it, also after a restart; it stays in the repository."""
    layout = place(home)
    options.check_named(model)
    operator_calls.ask(layout, "unload", model, key)
    name, _ = options.named(model)
    versions = Records(layout.executor_state).serving().get(name, [])
    rest = f"version {versions[-1]} serves" if versions else "nothing of it serves"
    out.print(f"{model} is unloaded; {rest}", markup=False)


def serves(
    name: str, version: str, serving: Mapping[str, Sequence[str]], quarantined: Mapping[str, object]
) -> str:
    """What `models list` says of a version: "yes" if calls that name no version get it, "if named" if only those that do.

    "" if it is not loaded.
    """
    if f"{name}:{version}" in quarantined:
        return "in quarantine"
    versions = serving.get(name, ())
    return "" if version not in versions else "yes" if version == versions[-1] else "if named"
