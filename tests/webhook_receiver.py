"""A real HTTP server that takes deliveries and answers as it is told."""

import json
import socket
import threading
from typing import Any

from tests.web_server import Answer, Request, web_server


class Receiver:
    """`answers`: the statuses of the next deliveries, then 204. `arrived(count)` waits for so many."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.deliveries: list[tuple[dict[str, str], bytes]] = []
        self._changed = threading.Condition()
        self._serving = web_server(self._answer)
        self.url = f"{self._serving.__enter__()}/hook?from=headrace"

    def _answer(self, request: Request) -> Answer:
        with self._changed:
            self.deliveries.append((dict(request.headers), request.body))
            self._changed.notify_all()
            status = self.answers.pop(0) if self.answers else 204
        return status, {"location": "http://127.0.0.1:1/elsewhere"}, b""

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.deliveries]

    def arrived(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.deliveries) >= count, 60)

    def close(self) -> None:
        self._serving.__exit__(None, None, None)


def silent() -> socket.socket:
    """A listener that takes connections and never answers."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    return listener
