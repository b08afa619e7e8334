"""`headrace audit`: its commands, in the order in which the help shows them."""

from __future__ import annotations

import typer

from headrace.cli.commands.audit import erase, export, verify

audit = typer.Typer(
    help="The audit: who did what, in a form that shows each later change.", no_args_is_help=True
)
audit.command()(verify.verify)
audit.command()(export.export)
audit.command()(erase.erase)
