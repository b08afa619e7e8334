"""`headrace predict PIPELINE`: one prediction through the ingress."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.commands.lifecycle.up import PIPELINE
from headrace.cli.commands.requests import prediction
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, fail, out, place
from headrace.cli.installation import secrets
from headrace.cli.supervision import daemon
from headrace.cli.supervision.control import ControlError
from headrace.client import HeadraceError


def predict(
    pipeline: Annotated[str, typer.Argument(help="Its name.")],
    home: Home = DEFAULT_HOME,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="NAME=VALUE, over the prepared real row.")
    ] = None,
    files: Annotated[
        list[str] | None, typer.Option("--file", "-f", help="NAME=PATH: an input that is a file's bytes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict for a real row, or for your own values."""
    layout = place(home)
    try:
        # The prepared real rows are flights.
        real = prediction.sample(layout.requests) if pipeline == PIPELINE else None
        row = {
            **(real or {}),
            **prediction.parse_inputs(inputs or []),
            **prediction.read_files(files or []),
        }
        key = secrets.demo_key(layout) or ""
        answer = prediction.predict(daemon.door(layout), key, pipeline, [row])
    except (ValueError, ControlError, HeadraceError) as error:
        fail(str(error))
    if as_json:
        print(prediction.as_json(answer))
    else:
        out.print(prediction.draw(answer, row))
    if any(one.error is not None for one in answer.predictions):
        raise typer.Exit(1)
