"""Control as a follower of a service asks it, with an event loop of its own."""

import asyncio
import threading
from dataclasses import replace

from headrace.api.control.v1.resources_pb2 import WatchRequest, WatchResponse
from headrace.hop.client.dial import Client
from headrace.hop.client.settings import BreakerRules, ClientRules
from headrace.resources.service import HopControl


class ThreadControl:
    """Raises ValueError if the target can't be read."""

    def __init__(self, given: ClientRules) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        rules = replace(given, breaker=BreakerRules(min_calls=1 << 30))
        self._client = asyncio.run_coroutine_threadsafe(self._dialled(rules), self._loop).result()
        self._control = HopControl(self._client, self._loop)
        self._closed = False

    def watch(self, request: WatchRequest, timeout_s: float) -> WatchResponse:
        if self._closed:
            raise OSError("it is closed")
        return self._control.watch(request, timeout_s)

    def turn(self) -> None:
        self._control.turn()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._control.close()
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _dialled(rules: ClientRules) -> Client:
        return Client("control", rules)
