"""The console's connections: strangers can fill only a part of their own, and whoever is slow to ask is cut off."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Connections of strangers, of those from one address, and of operators.
_STRANGERS, _OF_ADDRESS, _OPERATORS = 64, 32, 64
# So long after a connection or an answer the next request must be there as a whole, and a stranger have its answer.
REQUEST_S = 15.0


class Connection(H11Protocol):
    """`of_operator`: it has shown a session or key."""

    of_operator = False

    def __init__(self, connections: Connections, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._all = connections
        self._deadline = self.loop.call_later(REQUEST_S, self._late)

    @property
    def busy(self) -> bool:
        """Whether a request of it is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._all.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.closed(self)
        self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._deadline.cancel()
        self._deadline = self.loop.call_later(REQUEST_S, self._late)

    def _late(self) -> None:
        # An operator's page may take longer: all events that are kept.
        whole = self.busy and self.conn.their_state in (h11.DONE, h11.MUST_CLOSE)
        if not (self.of_operator and whole):
            self.transport.abort()


class Connections:
    """All that are open, the oldest first. Where a part is full, the oldest goes, best one that has nothing to answer."""

    def __init__(self) -> None:
        self._open: dict[Connection, None] = {}

    def opened(self, connection: Connection) -> None:
        """Takes it in as a stranger's; if theirs are full, one of the address goes that has most."""
        strangers = [c for c in self._open if not c.of_operator]
        held = Counter(map(_address, strangers))
        address = _address(connection)
        if held[address] < _OF_ADDRESS and len(strangers) >= _STRANGERS:
            address = held.most_common(1)[0][0]
        if held[address] >= _OF_ADDRESS or len(strangers) >= _STRANGERS:
            self._drop_one([c for c in strangers if _address(c) == address])
        self._open[connection] = None

    def of_operator(self, client: tuple[str, int]) -> None:
        """The connection from there has shown an operator's session or key."""
        for connection in self._open:
            connection.of_operator |= connection.client == client
        operators = [c for c in self._open if c.of_operator]
        if len(operators) > _OPERATORS:
            self._drop_one(operators)

    def closed(self, connection: Connection) -> None:
        """Lets go of it."""
        self._open.pop(connection, None)

    def _drop_one(self, connections: list[Connection]) -> None:
        dropped = next((c for c in connections if not c.busy), connections[0])
        self.closed(dropped)
        dropped.transport.abort()


def _address(connection: Connection) -> str:
    return connection.client[0] if connection.client else ""
