"""The SDK for programs without asyncio: the asynchronous client on an event loop in its own thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from headrace.client.asynchronous import AsyncHeadrace, Row
from headrace.client.options import Key
from headrace.client.results import Outcome, OutcomeCounts, Pipeline, PredictResult
from headrace.client.stats import Stats

if TYPE_CHECKING:
    from headrace.client.options import CallValues, OptionValues
    from headrace.client.results import ColumnsResult

T = TypeVar("T")


class Headrace:
    """A client of one headrace installation, for any number of threads; `with` closes it.

    As `AsyncHeadrace`, with blocking calls. Create it after forking, not before.
    """

    def __init__(self, target: str, *, key: Key | None = None, **options: Unpack[OptionValues]) -> None:
        self._client = AsyncHeadrace(target, key=key, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="headrace-client", daemon=True)
        self._lock = threading.Lock()
        self._closed = False
        self._thread.start()

    def predict(self, pipeline: str, rows: Row | Sequence[Row], **call: Unpack[CallValues]) -> PredictResult:
        """Predictions for one row or several; see `AsyncHeadrace.predict`. Raises HeadraceError."""
        return self._wait(self._client.predict(pipeline, rows, **call))

    def predict_columns(
        self, pipeline: str, columns: Mapping[str, Any], **call: Unpack[CallValues]
    ) -> ColumnsResult:
        """Predictions for columns; see `AsyncHeadrace.predict_columns`. Raises HeadraceError."""
        return self._wait(self._client.predict_columns(pipeline, columns, **call))

    def pipelines(self, *, timeout_s: float | None = None) -> list[Pipeline]:
        """What this key may use. Raises HeadraceError."""
        return self._wait(self._client.pipelines(timeout_s=timeout_s))

    def record_outcomes(
        self, outcomes: Iterable[Outcome], *, timeout_s: float | None = None
    ) -> OutcomeCounts:
        """Reports what became known of predictions; see `AsyncHeadrace.record_outcomes`. Raises HeadraceError."""
        return self._wait(self._client.record_outcomes(outcomes, timeout_s=timeout_s))

    def stats(self) -> Stats:
        """Calls, codes, retries and latency since the client was created."""
        return self._client.stats()

    def close(self) -> None:
        """Closes the connections and ends the thread. Later calls raise RuntimeError."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        if self._closed or threading.current_thread() is self._thread:
            call.close()
            raise RuntimeError("the client is closed" if self._closed else "a hook must not call the client")
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C must not leave the call running
            raise
