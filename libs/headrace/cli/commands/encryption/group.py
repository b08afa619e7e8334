"""`headrace encryption`: its commands, in the order in which the help shows them."""

from __future__ import annotations

import typer

from headrace.cli.commands.encryption import change, retirement, view

encryption = typer.Typer(
    help="The keys that events and audit payloads are sealed with; `headrace up --encrypt` begins it.",
    no_args_is_help=True,
)
encryption.command()(view.status)
encryption.command()(change.rotate)
encryption.command()(change.rewrap)
encryption.command()(retirement.retire)
encryption.command()(change.new)
