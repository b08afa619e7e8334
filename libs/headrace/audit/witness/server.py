"""A witness behind HTTP, for another machine: `POST /add-checkpoint` signs, `GET /checkpoint?origin=NAME` tells the last one."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from headrace.audit.witness.decision import MAX_REQUEST, RefusedError, Witness

_TIMEOUT_S = 10.0


def server(address: tuple[str, int], witness: Witness, told: Callable[[str], None]) -> ThreadingHTTPServer:
    """A server that is bound and waits for `serve_forever`. `told`: each answer that is not a signature, in words."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if self.path != "/add-checkpoint":
                self._answer(HTTPStatus.NOT_FOUND, b"there is /add-checkpoint and /checkpoint\n")
            elif not length.isdecimal() or int(length) > MAX_REQUEST:
                self.close_connection = True
                self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"too long, or without a length\n")
            else:
                content = self.rfile.read(int(length))
                self._answered(lambda: witness.add(content))

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            origin = parse_qs(url.query).get("origin", [""])[0]
            if url.path != "/checkpoint":
                self._answer(HTTPStatus.NOT_FOUND, b"there is /add-checkpoint and /checkpoint\n")
            else:
                self._answered(lambda: witness.last(origin))

        def log_message(self, format: str, *arguments: object) -> None:
            """Not a line for each signature."""

        def _answered(self, ask: Callable[[], bytes]) -> None:
            try:
                self._answer(HTTPStatus.OK, ask())
            except RefusedError as error:
                told(f"refused ({error.status}): {error}")
                known = "" if error.known is None else str(error.known)
                self._answer(error.status, f"{known or error}\n".encode(), sized=bool(known))
            except OSError as error:
                told(f"can't keep it, so nothing is signed: {error}")
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"the witness can't keep it now; try again\n")

        def _answer(self, status: int, content: bytes, *, sized: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/x.tlog.size" if sized else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return ThreadingHTTPServer(address, Handler)
