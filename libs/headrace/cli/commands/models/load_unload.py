"""`headrace models load` and `unload`: which versions the executors serve, by the model repository calls of the ingress."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import typer

from headrace.cli.commands.models import options
from headrace.cli.commands.operations import door_calls
from headrace.cli.commands.operations.door_calls import OperatorKey
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place
from headrace.cli.diagnosis import released_versions
from headrace.cli.installation import control_place
from headrace.cli.installation.layout import Layout
from headrace.hop.config import ConfigError
from headrace.repository.records import Records

# A load may build an engine; the ingress waits ten minutes for it.
_TIMEOUT_S = 610.0


def load(
    model: Annotated[str, typer.Argument(help="NAME:VERSION or NAME:LABEL; NAME is its newest version.")],
    home: Home = DEFAULT_HOME,
    key: OperatorKey = None,
) -> None:
    """Have every executor load a version beside those that serve, over restarts, too. Which version answers, releases say."""
    layout = place(home)
    name = ask(layout, "load", model, key)
    versions = Records(layout.executor_state).serving().get(name, [])
    loaded = f"{name}:{versions[-1]}" if versions else model
    out.print(f"{loaded} is loaded; {_answering(layout, name)}", markup=False, soft_wrap=True)


def unload(
    model: Annotated[str, typer.Argument(help="NAME:VERSION or NAME:LABEL; NAME is all of its versions.")],
    home: Home = DEFAULT_HOME,
    key: OperatorKey = None,
) -> None:
    """Have every executor take a version away: no new call finds it, also after a restart; it stays in the repository."""
    layout = place(home)
    name = ask(layout, "unload", model, key)
    out.print(f"{model} is unloaded; {_answering(layout, name)}", markup=False, soft_wrap=True)


def ask(layout: Layout, action: Literal["load", "unload"], model: str, key: Path | None) -> str:
    """Has every executor load or unload `model` (NAME or NAME:VERSION), and returns its name; ends the command if that fails."""
    options.check_named(model)
    path = f"/v2/repository/models/{quote(model, safe=':')}/{action}"
    try:
        door_calls.post(door_calls.local(layout, key), path, b"{}", "application/json", _TIMEOUT_S)
    except door_calls.NoAnswerError as error:
        fail(str(error))
    return options.named(model)[0]


def running(layout: Layout) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """See `released_versions.running`; nothing in a home that does not run. Ends the command if the settings can't be used."""
    try:
        return released_versions.running(layout)
    except control_place.NotRunningError:
        return {}
    except ConfigError as error:
        fail(str(error))


def _answering(layout: Layout, name: str) -> str:
    """Which versions of a model answer the callers of pipelines."""
    found: dict[str, list[str]] = {}
    for (model, version), places in running(layout).items():
        for pipeline, arm in places if model == name else ():
            found.setdefault(pipeline, []).append(version + arm)
    told = [f"pipeline {pipeline} runs version {', '.join(versions)}" for pipeline, versions in found.items()]
    return (
        "; ".join(told)
        or f"no pipeline runs {name}: headrace release deploy PIPELINE --models {name}=VERSION"
    )
