"""The `headrace` command."""

from __future__ import annotations

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from headrace.cli.commands.access.keys import keys
from headrace.cli.commands.access.security import security
from headrace.cli.commands.access.tenants import tenants
from headrace.cli.commands.cascade import cascade
from headrace.cli.commands.features import features
from headrace.cli.commands.lifecycle.doctor import doctor
from headrace.cli.commands.lifecycle.down import down
from headrace.cli.commands.lifecycle.logs import logs
from headrace.cli.commands.lifecycle.restart import restart
from headrace.cli.commands.lifecycle.status import status
from headrace.cli.commands.lifecycle.up import up
from headrace.cli.commands.models.group import models
from headrace.cli.commands.operations.shadow import shadow
from headrace.cli.commands.pipeline import pipeline
from headrace.cli.commands.releases.group import experiment, release, rollout
from headrace.cli.commands.requests.outcomes import outcomes
from headrace.cli.commands.requests.predict import predict
from headrace.cli.commands.requests.replay import replay
from headrace.cli.commands.requests.trace import trace
from headrace.cli.console import fail


class _Commands(TyperGroup):
    """The commands. An error of the operating system (a full disk, no permission) ends one with a sentence."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE or not error.strerror:
                raise  # nobody reads our output any more; or not an error of the operating system
            where = f"{error.filename}: " if error.filename else ""
            fail(f"{where}{error.strerror.lower()}")


app = typer.Typer(
    cls=_Commands,
    help="An inference pipeline as a suite of gRPC services behind Envoy.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they may hold keys
)
for command in (up, down, restart, status, predict, trace, replay, doctor, logs, security):
    app.command()(command)
app.add_typer(pipeline, name="pipeline")
app.add_typer(tenants, name="tenants")
app.add_typer(keys, name="keys")
app.add_typer(features, name="features")
app.add_typer(models, name="models")
app.add_typer(cascade, name="cascade")
app.add_typer(outcomes, name="outcomes")
app.add_typer(release, name="release")
app.add_typer(rollout, name="rollout")
app.add_typer(experiment, name="experiment")
app.add_typer(shadow, name="shadow")
