"""`headrace models load` and `unload`: which versions the executors serve."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.commands.models import operator_calls, options
from headrace.cli.commands.operations.door_calls import OperatorKey
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place
from headrace.cli.diagnosis import released_versions
from headrace.cli.installation import control_place
from headrace.cli.installation.layout import Layout
from headrace.hop.config import ConfigError
from headrace.repository.records import Records


def load(
    model: Annotated[str, typer.Argument(help="NAME:VERSION or NAME:LABEL; NAME is its newest version.")],
    home: Home = DEFAULT_HOME,
    key: OperatorKey = None,
) -> None:
    """Have every executor load a version beside those that serve, over restarts, too. Which version answers, releases say."""
    layout = place(home)
    options.check_named(model)
    operator_calls.ask(layout, "load", model, key)
    name, _ = options.named(model)
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
    options.check_named(model)
    operator_calls.ask(layout, "unload", model, key)
    name, _ = options.named(model)
    out.print(f"{model} is unloaded; {_answering(layout, name)}", markup=False, soft_wrap=True)


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
