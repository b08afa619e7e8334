"""`headrace audit prove`: one entry with what proves to others that it is in the log."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from headrace.audit.access import SCOPE
from headrace.cli.commands.audit.place import audit_of, damage_told, key_of, reader_of, reads_as
from headrace.cli.commands.audit.verify import Trusted
from headrace.cli.console import DEFAULT_HOME, Home, fail


def prove(
    index: Annotated[int, typer.Argument(help="Number of the entry, from 0; `export` shows them.")],
    home: Home = DEFAULT_HOME,
    trusted: Trusted = None,
) -> None:
    """Print an entry, its inclusion proof (RFC 6962) and the signed checkpoint, as JSON."""
    audit = audit_of(home)
    key = key_of(audit, trusted)
    with damage_told():
        try:
            proof = reader_of(audit, key).prove(reads_as(), [SCOPE], index)
        except ValueError as error:
            fail(str(error))
    print(json.dumps(proof.told(key), indent=2))
