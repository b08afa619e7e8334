"""Callers of a system that seals: a regulated tenant, one that is not, and somebody who guesses keys."""

import json
import threading
import time
import uuid
from collections import Counter
from typing import Any, Self

from headrace.api.monitoring.v1 import events_pb2
from headrace.cli.commands.operations.event_calls import ask
from headrace.client import Headrace, HeadraceError
from tests.sealed_home import PLACE
from tests.system import System, headrace, poll

REGULATED, USUAL = "bank", "shop"
_WALL = time.time
# So that a window has fewer events than the most that one answer has.
_PAUSE_S, _WINDOW_S, _MOST = 0.02, 8, 1000
_GUESS_S = 0.2


class SealedTraffic:
    """Closed loops of both tenants until the context is left. `answered`: request ids by tenant; `failed`: how often, by
    tenant and reason."""

    def __init__(self, system: System) -> None:
        suffix = uuid.uuid4().hex[:8]
        self.tenants = {kind: f"{kind}-{suffix}" for kind in (REGULATED, USUAL)}
        self.keys: dict[str, str] = {}
        for kind, tenant in self.tenants.items():
            regulated = "--regulated" if kind == REGULATED else "--not-regulated"
            headrace("tenants", "add", tenant, "--pipeline", "flights", regulated)
            self.keys[kind] = headrace("keys", "create", tenant).strip()
        self.answered: dict[str, list[str]] = {kind: [] for kind in self.tenants}
        self.failed: Counter[tuple[str, str]] = Counter()
        self._began = _WALL()
        self._system = system
        self._end = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._ask, args=(kind,)) for kind in self.tenants for _ in range(2)),
            threading.Thread(target=self._guess),
        ]

    def __enter__(self) -> Self:
        poll("the door knows the tenants", lambda: not any(map(self.refusal, self.tenants)))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def refusal(self, kind: str) -> str:
        """Why a request of this tenant is refused now, as the code's reason; empty: it is answered."""
        with self._client(kind) as client:
            return _refusal(client, self._system.rows[0])[0]

    def more(self, count: int, *kinds: str) -> None:
        """Waits until each of these tenants, or of all, got so many more answers."""
        wanted = {kind: len(self.answered[kind]) + count for kind in kinds or self.tenants}
        poll("there is load", lambda: all(len(self.answered[k]) >= n for k, n in wanted.items()), 120)

    def stored(self, kind: str) -> Counter[str]:
        """How many events are stored of each request of a tenant."""
        events: dict[str, str] = {}
        first = int(self._began)
        for begin in range(first, int(_WALL()) + _WINDOW_S, _WINDOW_S):
            wanted = events_pb2.ListEventsRequest(tenant=self.tenants[kind], limit=_MOST)
            wanted.begin_time.FromSeconds(begin)
            wanted.end_time.FromSeconds(begin + _WINDOW_S)
            found = ask(PLACE, "ListEvents", wanted, events_pb2.ListEventsResponse)
            assert len(found.events) < _MOST, "a smaller window is needed"
            assert not found.unreadable_segments, list(found.unreadable_segments)
            events |= {e.event_id: json.loads(e.content_json)["request_id"] for e in found.events}
        return Counter(events.values())

    def lost(self, kind: str) -> set[str]:
        """Requests of a tenant that were answered and of which no event is stored."""
        return set(self.answered[kind]) - set(self.stored(kind))

    def _client(self, kind: str) -> Headrace:
        return Headrace(self._system.endpoints["grpc"], key=self.keys[kind], attempts=1)

    def _ask(self, kind: str) -> None:
        number = 0
        with self._client(kind) as client:
            while not self._end.wait(_PAUSE_S):
                number += 1
                why, request = _refusal(client, self._system.rows[number % 100])
                if why:
                    self.failed[kind, why] += 1
                else:
                    self.answered[kind].append(request)

    def _guess(self) -> None:
        """Each is a security event, which is sealed as it names who asked."""
        while not self._end.wait(_GUESS_S):
            key = f"hr_{uuid.uuid4().hex}"
            with Headrace(self._system.endpoints["grpc"], key=key, attempts=1) as client:
                _refusal(client, self._system.rows[0])


def _refusal(client: Headrace, row: dict[str, Any]) -> tuple[str, str]:
    """Why a row is refused, "" if it is not; and the request's id."""
    try:
        reply = client.predict("flights", row, timeout_s=30.0)
    except HeadraceError as error:
        return error.reason or error.code.name, error.request_id
    failure = reply.predictions[0].error
    return "" if failure is None else failure.reason, reply.request_id
