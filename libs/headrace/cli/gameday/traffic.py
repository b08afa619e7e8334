"""Steady traffic through the door, so that it is known what a fault costs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.cli.gameday.figures import OK, Request
from headrace.cli.gameday.stage import GameDayError
from headrace.client import Headrace, HeadraceError

_PAUSE_S, _TIMEOUT_S = 0.02, 2.0
_ENOUGH = 10


class Traffic:
    """So many callers until the context is left. Each asks again 20 ms after its answer, with one row; no call is repeated."""

    def __init__(
        self, target: str, key: str, pipeline: str, rows: Sequence[Mapping[str, Any]], callers: int
    ) -> None:
        self._client = Headrace(target, key=key, attempts=1, timeout_s=_TIMEOUT_S, tls=False)
        self._pipeline = pipeline
        self._rows = itertools.cycle(rows)
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(callers)]
        self._lock = threading.Lock()
        self._raised: list[Exception] = []
        self.requests: list[Request] = []

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def healthy(self, usual: frozenset[str], within_s: float = 2.0) -> bool:
        """Whether all that began within the last seconds, and enough, went well. `usual`: fallbacks that are no news.

        Raises what has ended a caller."""
        if self._raised:
            raise self._raised[0]
        since = time.monotonic() - within_s
        recent = [r for r in list(self.requests) if r.began >= since]
        return len(recent) >= _ENOUGH and all(r.code == OK and usual.issuperset(r.fallbacks) for r in recent)

    def fallbacks(self, since: float) -> frozenset[str]:
        """The fallbacks that rows had since then (monotonic seconds)."""
        return frozenset(name for r in list(self.requests) if r.began >= since for name in r.fallbacks)

    def check(self) -> None:
        """Raises GameDayError: a row gets no prediction even now."""
        try:
            [found] = self._client.predict(self._pipeline, [self._row()]).predictions
        except HeadraceError as error:
            raise GameDayError(f"requests fail without any fault: {error}") from error
        if found.error is not None:
            raise GameDayError(f"requests fail without any fault: {found.error.message}")

    def _ask(self) -> None:
        try:
            while not self._end.wait(_PAUSE_S):
                began = time.monotonic()
                code, fallbacks = self._asked()
                self.requests.append(Request(began, time.monotonic() - began, code, fallbacks))
        except Exception as error:  # noqa: BLE001 - told below, in the thread that waits
            self._raised.append(error)

    def _asked(self) -> tuple[str, tuple[str, ...]]:
        try:
            [found] = self._client.predict(self._pipeline, [self._row()]).predictions
        except HeadraceError as error:
            return error.code.name, ()
        return OK if found.error is None else found.error.code.name, tuple(found.fallbacks)

    def _row(self) -> Mapping[str, Any]:
        with self._lock:
            return next(self._rows)
