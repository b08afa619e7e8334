"""Connections to a Redis over TLS whose files are read again once they were replaced. It imports redis-py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.asyncio import connection, sentinel

_Stamp = tuple[int, int, int]


class RenewedConnection(connection.SSLConnection):
    """redis-py keeps what it has read as long as a pool keeps the connection: a new one to the same server would show a
    certificate that has ended, and not know a new CA."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._read: tuple[_Stamp | None, ...] = ()

    async def connect(self) -> None:
        """Connects if it is not. Raises redis-py's ConnectionError, also if the files can't be used."""
        if not self.is_connected:
            now = tuple(_stamp(path) for path in (self.ca_certs, self.certfile, self.keyfile))
            if now != self._read:
                self._read, self.ssl_context.context = now, None
        await super().connect()  # type: ignore[no-untyped-call]  # redis-py leaves it without types


class RenewedWatchedConnection(RenewedConnection, sentinel.SentinelManagedConnection):
    """The same to the server that Sentinels name."""


def _stamp(path: str | None) -> _Stamp | None:
    try:
        found = Path(path).stat() if path else None
    except OSError:
        return None
    return found and (found.st_ino, found.st_mtime_ns, found.st_size)
