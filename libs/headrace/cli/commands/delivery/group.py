"""`headrace deliver`: its commands, in the order in which the help shows them."""

from __future__ import annotations

import typer

from headrace.cli.commands.delivery import deploy, history, publish

deliver = typer.Typer(
    help="Publish a version (sign, push), deploy it service by service, and see how it went.",
    no_args_is_help=True,
)
deliver.command()(publish.publish)
deliver.command()(deploy.deploy)
deliver.command()(history.history)
