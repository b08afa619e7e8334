"""The audit of a home, for a command that reads it: each reading is recorded before it is done.

Who can read the home's files can read the audit (they are this user's alone), so the scope that a key needs at the door is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.audit import AccessError, NoteError, Verifier
from headrace.audit.reader import Reader
from headrace.audit.settings import Audit
from headrace.audit.tiles import TileError
from headrace.cli.commands.models.options import user
from headrace.cli.console import command, fail, place
from headrace.cli.installation.audit import audit_place
from headrace.hop.config import ConfigError


def audit_of(home: Path) -> Audit:
    """The audit of a home. Ends the command if there is none, or its settings are wrong."""
    layout = place(home)
    if not layout.audit_key.exists():
        fail(f"there is no audit log in {home} yet; `headrace up` begins one")
    try:
        return Audit(audit_place.settings(layout))
    except ConfigError as error:
        fail(str(error))


def key_of(audit: Audit, trusted: Path | None) -> Verifier:
    """The public key to verify with. Ends the command if the file holds none."""
    path = trusted or audit.settings.public_key
    try:
        return Verifier.parse(path.read_text())
    except (NoteError, UnicodeDecodeError) as error:
        fail(f"{path} is no public key of an audit log: {error}")


def reader_of(audit: Audit, key: Verifier) -> Reader:
    """What reads it."""
    return Reader(audit.log, key, audit.access, audit.payloads)


def reads_as(by: str = "headrace audit") -> str:
    """Who reads, and by which command, for the record."""
    return f"{user()} ({by})"


@contextmanager
def damage_told() -> Iterator[None]:
    """Ends the command with a sentence if the log is damaged, or that it is read can't be recorded."""
    try:
        yield
    except AccessError as error:
        fail(str(error))
    except (NoteError, TileError) as error:
        fail(f"the audit log is damaged: {error}; `{command()} audit verify` says where")
