"""Tells webhooks what fires and what ended, in Alertmanager's format (version 4)."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

from headrace.slo import PAGE, TICKET
from headrace.slo.servers import Alert
from services.monitoring.ports import Log

_TIMEOUT_S = 5.0
# What still fires is told again after so long.
_REPEAT_S = {PAGE: 3600.0, TICKET: 86_400.0}


class Webhooks:
    """`urls`: by severity. Sends on a thread of its own. What could not be sent is tried again the next time."""

    def __init__(self, urls: Mapping[Any, str], wall: Callable[[], float], log: Log) -> None:
        self._urls = urls
        self._wall = wall
        self._log = log
        # By fingerprint, what was told, and when.
        self._told: dict[str, tuple[Alert, float]] = {}
        self._thread = ThreadPoolExecutor(1, "webhooks")
        self._sending: Future[None] | None = None

    def tell(self, alerts: Sequence[Alert]) -> None:
        """`alerts`: all that fire now. While something is being sent, nothing is done."""
        if self._sending is None or self._sending.done():
            self._sending = self._thread.submit(self._send, alerts)

    def close(self) -> None:
        """Waits for what is being sent."""
        self._thread.shutdown()

    def _send(self, alerts: Sequence[Alert]) -> None:
        now, firing = self._wall(), {a.fingerprint for a in alerts}
        for severity, url in self._urls.items():
            changes = [("firing", a) for a in alerts if a.state == "active" and self._is_due(a, now)]
            changes += [("resolved", a) for a, _ in self._told.values() if a.fingerprint not in firing]
            changes = [(status, a) for status, a in changes if a.labels["severity"] == severity]
            try:
                if changes:
                    _post(url, severity, changes)
            except (OSError, ValueError, HTTPException) as error:
                self._log.error("a webhook of alerts does not answer", severity=severity, error=repr(error))
                continue
            for status, a in changes:
                if status == "firing":
                    self._told[a.fingerprint] = a, now
                else:
                    del self._told[a.fingerprint]

    def _is_due(self, alert: Alert, now: float) -> bool:
        _, told = self._told.get(alert.fingerprint, (alert, -math.inf))
        return now - told >= _REPEAT_S[alert.labels["severity"]]


def _post(url: str, severity: str, changes: Sequence[tuple[str, Alert]]) -> None:
    message = {
        "version": "4",
        "status": "firing" if any(status == "firing" for status, _ in changes) else "resolved",
        "receiver": severity,
        "alerts": [
            {
                "status": status,
                "labels": dict(a.labels),
                "annotations": dict(a.annotations),
                "startsAt": a.since,
                "fingerprint": a.fingerprint,
            }
            for status, a in changes
        ],
    }
    request = urllib.request.Request(  # noqa: S310 - the settings admit only http and https
        url, json.dumps(message).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=_TIMEOUT_S).close()  # noqa: S310 - as above
