"""The `headrace` command."""

from __future__ import annotations

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from headrace.cli.commands.doctor import doctor
from headrace.cli.commands.down import down
from headrace.cli.commands.features import features
from headrace.cli.commands.keys import keys
from headrace.cli.commands.logs import logs
from headrace.cli.commands.models import models
from headrace.cli.commands.pipeline import pipeline
from headrace.cli.commands.predict import predict
from headrace.cli.commands.restart import restart
from headrace.cli.commands.security import security
from headrace.cli.commands.status import status
from headrace.cli.commands.tenants import tenants
from headrace.cli.commands.trace import trace
from headrace.cli.commands.up import up
from headrace.cli.console import fail


class _Commands(TyperGroup):
    """The commands. What the system refuses (a full disk, a right that is missing) ends one with a sentence."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE or not error.strerror:
                raise  # the reader of our output went away; or none of the system's
            where = f"{error.filename}: " if error.filename else ""
            fail(f"{where}{error.strerror.lower()}")


app = typer.Typer(
    cls=_Commands,
    help="An inference pipeline as a suite of gRPC services behind Envoy.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they may hold keys
)
for command in (up, down, restart, status, predict, trace, doctor, logs, security):
    app.command()(command)
app.add_typer(pipeline, name="pipeline")
app.add_typer(tenants, name="tenants")
app.add_typer(keys, name="keys")
app.add_typer(features, name="features")
app.add_typer(models, name="models")
