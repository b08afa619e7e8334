"""Scopes, as they are typed on the command line."""

from __future__ import annotations

from typing import get_args

from headrace.cli.console import fail
from headrace.state.tenants import Scope


def read_scopes(words: list[str]) -> tuple[Scope, ...]:
    """The scopes of those names, in their order. Ends the command with a message for a name that is none."""
    known = get_args(Scope)
    if strange := [w for w in words if w not in known]:
        fail(f"no scope {', '.join(strange)!r}; there are: {', '.join(known)}")
    return tuple(s for s in known if s in words)
