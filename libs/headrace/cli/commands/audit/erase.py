"""`headrace audit erase`: what the security events hold of one client or tenant, so that the audit still holds."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.audit.erasure import erase as erase_lines
from headrace.audit.journals import Journal
from headrace.cli.commands.audit.place import SECURITY, failures, reader, record
from headrace.cli.console import DEFAULT_HOME, Home, command, fail, out, place


def erase(
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded.")],
    home: Home = DEFAULT_HOME,
    tenant: Annotated[str, typer.Option(help="Lines of this tenant.")] = "",
    client: Annotated[str, typer.Option(help="Lines of this client's address.")] = "",
) -> None:
    """Erase the security events of a client or tenant. Of each line its hash remains, from which nothing can be told."""
    layout = place(home)
    if not (tenant or client):
        fail("name a --tenant or a --client")
    access = record(layout, "read", purpose="erasure")
    with failures():
        journal = Journal(SECURITY, layout.security_log)
        count = erase_lines(journal, access, reader(), {"tenant": tenant, "client": client}, reason)
    out.print(f"{count} lines are erased; that the audit holds says: {command()} audit verify", markup=False)
