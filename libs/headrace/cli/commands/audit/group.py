"""`headrace audit`: its commands, in the order in which the help shows them."""

from __future__ import annotations

import typer

from headrace.cli.commands.audit import erase, export, prove, verify, witness

audit = typer.Typer(
    help="The audit log: who did what, in a form that shows each later change.", no_args_is_help=True
)
audit.command()(verify.verify)
audit.command()(prove.prove)
audit.command()(export.export)
audit.command()(erase.erase)
audit.command()(witness.witness)
