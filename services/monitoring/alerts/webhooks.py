"""Tells webhooks what fires and what ended, in Alertmanager's format (version 4)."""

from __future__ import annotations

import json
import math
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from headrace.slo import PAGE
from headrace.slo.servers import Alert
from services.monitoring.ports import Log

_TIMEOUT_S = 5.0
# What still fires is told again after so long.
_REPEAT_S = {PAGE: 3600.0}
_REPEAT_ELSE_S = 86_400.0


class Webhooks:
    """`urls`: by severity. Sends on a thread of its own. What could not be sent is tried again the next time."""

    def __init__(self, urls: Mapping[Any, str], wall: Callable[[], float], log: Log) -> None:
        self._urls = urls
        self._wall = wall
        self._log = log
        self._told: dict[str, tuple[Alert, float]] = {}
        self._thread = ThreadPoolExecutor(1, "webhooks")
        self._sending: Future[None] | None = None
        self._failed = ""

    def tell(self, alerts: Sequence[Alert]) -> None:
        """`alerts`: all that fire now. While something is being sent, nothing is done."""
        if self._urls and (self._sending is None or self._sending.done()):
            self._sending = self._thread.submit(self._send, alerts)

    def wait(self) -> None:
        """Until nothing is being sent."""
        if self._sending is not None:
            self._sending.result()

    def close(self) -> None:
        """Waits for what is being sent."""
        self._thread.shutdown()

    def _send(self, alerts: Sequence[Alert]) -> None:
        now, firing = self._wall(), {a.fingerprint: a for a in alerts}
        groups: defaultdict[tuple[str, str], list[tuple[str, Alert]]] = defaultdict(list)
        for one in firing.values():
            repeat_s = _REPEAT_S.get(one.labels["severity"], _REPEAT_ELSE_S)
            _, told = self._told.get(one.fingerprint, (one, -math.inf))
            if one.state == "active" and now - told >= repeat_s:
                groups[_group(one)].append(("firing", one))
        for fingerprint, (one, _) in self._told.items():
            if fingerprint not in firing:
                groups[_group(one)].append(("resolved", one))
        for (severity, pipeline), changes in groups.items():
            try:
                self._post(severity, pipeline, changes, now)
            except (OSError, ValueError) as error:
                if repr(error) != self._failed:
                    self._log.error(
                        "a webhook of alerts does not answer", severity=severity, error=repr(error)
                    )
                self._failed = repr(error)
                continue
            self._failed = ""
            for status, one in changes:
                if status == "firing":
                    self._told[one.fingerprint] = one, now
                else:
                    del self._told[one.fingerprint]

    def _post(self, severity: str, pipeline: str, changes: Sequence[tuple[str, Alert]], now: float) -> None:
        url = self._urls.get(severity)
        if url is None:
            return
        labels = {"pipeline": pipeline, "severity": severity}
        message: dict[str, Any] = {
            "version": "4",
            "groupKey": f"{severity}:{pipeline}",
            "status": "firing" if any(status == "firing" for status, _ in changes) else "resolved",
            "receiver": severity,
            "groupLabels": labels,
            "alerts": [
                {
                    "status": status,
                    "labels": dict(one.labels),
                    "annotations": dict(one.annotations),
                    "startsAt": one.since,
                    "endsAt": datetime.fromtimestamp(now, UTC).isoformat() if status == "resolved" else "",
                    "fingerprint": one.fingerprint,
                }
                for status, one in changes
            ],
        }
        request = urllib.request.Request(  # noqa: S310 - the settings admit only http and https
            url, json.dumps(message).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=_TIMEOUT_S).close()  # noqa: S310 - as above


def _group(alert: Alert) -> tuple[str, str]:
    return alert.labels["severity"], alert.labels.get("pipeline", "")
