"""A real HTTP server that takes deliveries and answers as it is told."""

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """`answers`: the statuses of the next deliveries, then 204. `arrived(count)` waits for so many."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.deliveries: list[tuple[dict[str, str], bytes]] = []
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver._take({k.lower(): v for k, v in self.headers.items()}, body)
                self.send_response(status)
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?from=headrace"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def _take(self, headers: dict[str, str], body: bytes) -> int:
        with self._changed:
            self.deliveries.append((headers, body))
            self._changed.notify_all()
            return self.answers.pop(0) if self.answers else 204

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.deliveries]

    def arrived(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.deliveries) >= count, 60)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def until(condition: Callable[[], bool]) -> bool:
    """Waits for what a thread does by and by; False after a minute."""
    waiting = threading.Event()
    for _ in range(6000):
        if condition():
            return True
        waiting.wait(0.01)
    return False


def silent() -> socket.socket:
    """A listener that takes connections and never answers."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    return listener
