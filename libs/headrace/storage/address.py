"""Where a database is: the path of a file of SQLite, or the URL of a PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict


@dataclass(frozen=True, slots=True)
class SqliteAddress:
    """A file on a disk of this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """`options`: for libpq, without the password. `password_file`: read again for each connection, as secrets are rotated."""

    options: Mapping[str, str] = field(repr=False)
    password_file: Path | None = None


def parse(text: str) -> SqliteAddress | PostgresAddress:
    """A path, or `postgresql://USER@HOST/DATABASE?password_file=PATH&sslmode=…` with any option of libpq.

    Raises ValueError; its text names no secret.
    """
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme in ("postgresql", "postgres"):
        return _postgres(text)
    if scheme or not text:
        raise ValueError("the address of a database is the path of a file, or begins with postgresql://")
    return SqliteAddress(Path(text))


def _postgres(url: str) -> PostgresAddress:
    parts = urlsplit(url)
    # As libpq reads it: `+` is no space.
    query = [option.partition("=") for option in parts.query.split("&")]
    files = [unquote(value) for name, _, value in query if name == "password_file"]
    rest = ["".join(option) for option in query if option[0] != "password_file"]
    try:
        options = conninfo_to_dict(urlunsplit(parts._replace(query="&".join(rest))))
    except ProgrammingError:
        # Its text may repeat the address, and so a password.
        raise ValueError("the address of the database is not one that PostgreSQL's clients know") from None
    if options.pop("password", None) is not None:
        raise ValueError(
            "the address of the database holds a password: write it to a file, password_file=PATH"
        )
    password_file = Path(files[-1]) if files else None
    return PostgresAddress({name: str(value) for name, value in options.items()}, password_file)
