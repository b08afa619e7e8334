"""Says when the database fails and when it is well again: once each, in the metric and the log."""

from __future__ import annotations

from typing import Any

from prometheus_client import Gauge

from headrace.catalog.errors import RecordsError


class FailureLog:
    """`what`: goes before "can't be used" in the log."""

    def __init__(self, what: str, gauge: Gauge, log: Any) -> None:
        self._what = what
        self._gauge = gauge
        self._log = log
        self._said = ""

    def __call__(self, error: RecordsError | OSError | ValueError | None) -> None:
        """None: it works."""
        self._gauge.set(error is not None)
        text = "" if error is None else str(error) or type(error).__name__
        if text == self._said:
            return
        self._said = text
        if error is None:
            self._log.info(f"{self._what} can be used again")
        else:
            self._log.warning(f"{self._what} can't be used", why=text)
