"""Says when the database or a store fails and when it is well again: once each, in the metric and the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from prometheus_client import Gauge

from headrace.catalog.errors import RecordsError

Failed: TypeAlias = Callable[[RecordsError | OSError | ValueError | None], None]
"""Hears what is wrong; None: it works."""


class Failures:
    """`gauge`: 1 while any of what is watched fails."""

    def __init__(self, gauge: Gauge, log: Any) -> None:
        self._gauge = gauge
        self._log = log
        self._failing: dict[str, str] = {}

    def of(self, what: str) -> Failed:
        """Watches something. `what`: goes before "can't be used" in the log."""

        def failed(error: RecordsError | OSError | ValueError | None) -> None:
            text = "" if error is None else str(error) or type(error).__name__
            if text == self._failing.get(what, ""):
                return
            self._failing[what] = text
            self._gauge.set(any(self._failing.values()))
            if error is None:
                self._log.info(f"{what} can be used again")
            else:
                self._log.error(f"{what} can't be used", why=text)

        return failed
