"""The console's connections. Those that have shown an operator's session or key have a part of their own, so that silent ones and
strangers can fill only theirs; and whoever is slow to ask is cut off."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Connections of strangers, of those from one address, and of operators. Sockets of one service must not eat its other ones.
_STRANGERS, _OF_ADDRESS, _OPERATORS = 64, 32, 64
# A request must be there as a whole after so long; a stranger must have its answer by then, too.
_REQUEST_S = 10.0


class Connection(H11Protocol):
    """One connection of a browser or program."""

    def __init__(self, connections: Connections, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._all = connections
        self._deadline: asyncio.TimerHandle | None = None
        self.of_operator = False

    @property
    def busy(self) -> bool:
        """Whether a request of it is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()
        self._all.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.closed(self)
        self._end_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and not self.busy:
            self._expect_request()
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._end_deadline()
        super().on_response_complete()
        if self.busy:  # with a request that was sent ahead
            self._expect_request()

    def drop(self) -> None:
        """Closes it at once, whatever it still has to send."""
        self.transport.abort()

    def _expect_request(self) -> None:
        self._deadline = self.loop.call_later(_REQUEST_S, self._late)

    def _late(self) -> None:
        # It is whole, and takes as long as the answer takes: pages that are streamed go on for minutes.
        whole = self.busy and self.conn.their_state in (h11.DONE, h11.MUST_CLOSE)
        if not (self.of_operator and whole):
            self.drop()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Connections:
    """All that are open, the oldest first. When a part is full, the oldest goes that has nothing to answer: among strangers, that
    of the address which has most."""

    def __init__(self) -> None:
        self._strangers: dict[Connection, None] = {}
        self._operators: dict[Connection, None] = {}

    def protocol(self, *arguments: Any, **more: Any) -> Connection:
        """A new connection, for uvicorn."""
        return Connection(self, *arguments, **more)

    def opened(self, connection: Connection) -> None:
        """Takes it in as a stranger's."""
        held = Counter(map(_address, self._strangers))
        if held[_address(connection)] >= _OF_ADDRESS:
            self._drop_one(_address(connection))
        elif len(self._strangers) >= _STRANGERS:
            self._drop_one(held.most_common(1)[0][0])
        self._strangers[connection] = None

    def of_operator(self, client: tuple[str, int]) -> None:
        """The connection from there has shown an operator's session or key. If all of theirs are busy it stays a stranger's."""
        connection = next((c for c in self._strangers if c.client == client), None)
        if connection is None:
            return
        if len(self._operators) >= _OPERATORS:
            idle = next((c for c in self._operators if not c.busy), None)
            if idle is None:
                return
            self._operators.pop(idle)
            idle.drop()
        del self._strangers[connection]
        self._operators[connection] = None
        connection.of_operator = True

    def closed(self, connection: Connection) -> None:
        """Lets go of it."""
        self._strangers.pop(connection, None)
        self._operators.pop(connection, None)

    def _drop_one(self, address: str) -> None:
        found = [c for c in self._strangers if _address(c) == address]
        oldest = next((c for c in found if not c.busy), found[0])
        self._strangers.pop(oldest)
        oldest.drop()


def _address(connection: Connection) -> str:
    return connection.client[0] if connection.client else ""
