"""Scopes, as they are typed on the command line."""

from __future__ import annotations

from headrace.access.specs import SCOPES, Scope, check_scope
from headrace.cli.console import fail


def read_scopes(words: list[str]) -> tuple[Scope, ...]:
    """The scopes of those names, in their order. Ends the command with a message for a name that is none."""
    try:
        found = {check_scope(word) for word in words}
    except ValueError as error:
        fail(str(error))
    return (*(s for s in SCOPES if s in found), *sorted(found.difference(SCOPES)))
