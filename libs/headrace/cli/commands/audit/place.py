"""The audit of an installation, for a command that reads it: each reading is recorded before it is done.

Who can read the home's files can read the audit (they are this user's alone), so the scope that a key needs at the door is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.audit.access import SCOPE, Access, AccessError, Act
from headrace.audit.journals import Journal
from headrace.catalog.errors import RecordsError
from headrace.catalog.remote import TargetError
from headrace.cli.commands.models.options import user
from headrace.cli.console import fail
from headrace.cli.installation.layout import Layout
from headrace.hop.config import ConfigError
from headrace.hop.errors import Fault

# The journal whose lines tell of persons.
SECURITY = "security"


def record(layout: Layout, act: Act, by: str = "headrace audit", **about: str) -> Access:
    """Records what is read. Ends the command if it can't be."""
    access = Access(layout.readings)
    with failures():
        access.allow(act, reader(by), [SCOPE], **about)
    return access


def journals(layout: Layout) -> list[Journal]:
    """Those of the home."""
    return [Journal(name, path) for name, path in layout.journals.items()]


def reader(by: str = "headrace audit") -> str:
    """Who reads, and by which command, for the record."""
    return f"{user()} ({by})"


@contextmanager
def failures() -> Iterator[None]:
    """What goes wrong within ends the command with a sentence."""
    try:
        yield
    except (AccessError, ConfigError, RecordsError, TargetError, Fault) as error:
        fail(str(error))
