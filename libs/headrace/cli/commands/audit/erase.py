"""`headrace audit erase`: what the audit holds of one client or tenant, so that the log stays valid."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.audit.access import SCOPE
from headrace.audit.persons.erasure import erase as erase_lines
from headrace.cli.commands.audit.place import audit_of, damage_told, reads_as
from headrace.cli.console import DEFAULT_HOME, Home, command, fail, out


def erase(
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the log.")],
    home: Home = DEFAULT_HOME,
    tenant: Annotated[str, typer.Option(help="Lines of this tenant.")] = "",
    client: Annotated[str, typer.Option(help="Lines of this client's address.")] = "",
) -> None:
    """Erase the lines of a client or tenant. The log keeps that there was something, when and of what kind.

    Lines in the security log itself (audit/security.jsonl and its older files) go as that is rotated.
    """
    audit = audit_of(home)
    wanted = {key: value for key, value in (("tenant", tenant), ("client", client)) if value}
    if not wanted:
        fail("name a --tenant or a --client")
    with damage_told():
        audit.access.allow("read", reads_as(), [SCOPE], purpose="erasure")
        count = erase_lines(audit.payloads, audit.access, reads_as(), wanted, reason)
    out.print(f"{count} lines are erased; that the log holds says: {command()} audit verify", markup=False)
