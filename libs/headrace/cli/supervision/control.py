"""How commands talk to the supervisor: JSON lines over a unix socket, one request and one reply per connection."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

RequestHandler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
_MAX_LINE = 64 * 1024


class ControlError(Exception):
    """The supervisor can't be reached, or refused; the text says why."""


@asynccontextmanager
async def serving(path: Path, handler: RequestHandler) -> AsyncIterator[None]:
    """Answers requests at `path`, which must be in a private folder: every client that can connect is obeyed."""
    _remove(path)  # of a supervisor that was killed

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            reply = await _answered(handler, json.loads(line))
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (ValueError, ConnectionError):
            pass  # not a request of ours, or its sender has gone
        finally:
            writer.close()

    # Who connects to a socket that is bound and does not listen yet is refused, so `path` is there only when it does.
    early = path.with_name(path.name + ".new")
    server = await asyncio.start_unix_server(handle, early, limit=_MAX_LINE)
    early.rename(path)
    try:
        yield
    finally:
        server.close()
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _answered(handler: RequestHandler, request: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - the client must get the error, whatever it is
        return {"error": f"the supervisor could not do it: {type(error).__name__}: {error}"}


def ask(path: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """The supervisor's reply. Raises ControlError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except TimeoutError as error:
            raise ControlError(f"the supervisor did not answer within {timeout:g} s") from error
        except OSError as error:
            raise ControlError(f"the supervisor can't be reached: {error}") from error
    if not line.endswith(b"\n"):
        raise ControlError("the supervisor ended before it answered; see: headrace logs supervisor")
    reply: dict[str, Any] = json.loads(line)
    if "error" in reply:
        raise ControlError(str(reply["error"]))
    return reply
