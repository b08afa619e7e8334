"""The console on a real socket, and a browser with a connection to it."""

import asyncio
import http.client
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import structlog

from services.monitoring.console.assembly import console
from services.monitoring.console.facts.trails import ReleaseAudit
from tests.services.monitoring.console.console_place import Place


@asynccontextmanager
async def serving(place: Place, port: int) -> AsyncIterator[None]:
    """The console on a socket; it listens."""
    settings, own = place.settings(f"127.0.0.1:{port}"), ReleaseAudit(place.audit)
    clocks = (lambda: place.wall), (lambda: place.monotonic)
    async with console(settings, place.sources(), place.records, own, structlog.get_logger(), *clocks):
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield


class Client:
    """A browser with one connection to the console."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, 60, (source, 0))
        self.cookies: dict[str, str] = {}

    async def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
        """Status and page."""
        return await asyncio.to_thread(self._ask, method, path, body, headers)

    def _ask(self, method: str, path: str, body: str, more: Mapping[str, str]) -> tuple[int, str]:
        headers = {"accept": "text/html", **more}
        if self.cookies:
            headers["cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        if body:
            headers["content-type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, path, body or None, headers)
        reply = self._connection.getresponse()
        for value in reply.headers.get_all("set-cookie") or ():
            name, _, rest = value.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return reply.status, reply.read().decode()

    async def submit(self, page: str, path: str, **fields: str) -> int:
        """Sends a form with the token that is on a page."""
        _, text = await self.ask("GET", page)
        token = text.partition('name="csrf" value="')[2].partition('"')[0]
        status, _ = await self.ask("POST", path, urlencode({"csrf": token, **fields}))
        return status

    async def sign_in(self, key: str) -> int:
        return await self.submit("/sign-in", "/sign-in", key=key)

    def close(self) -> None:
        self._connection.close()
