"""Asks a Prometheus for its series and alerts, and an Alertmanager for silences."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_TIMEOUT_S = 5.0
_ALERTMANAGER = "settings/slo.yaml: alertmanager"


class ServerError(Exception):
    """A server can't be asked; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of one series."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Alert:
    """Of Prometheus: `state` is pending or firing. Of Alertmanager: active, suppressed or unprocessed; `silences`: ids of those
    that suppress it; `inhibitors`: fingerprints of alerts that do."""

    fingerprint: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    state: str
    since: str
    silences: tuple[str, ...] = ()
    inhibitors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence that is in force."""

    id: str
    author: str
    comment: str
    end: str


class PrometheusApi:
    """`url`: such as http://127.0.0.1:9090. Blocks."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def query(self, expression: str) -> list[Sample]:
        """The value of an expression now. Raises ServerError."""
        asked = urllib.parse.urlencode({"query": expression})
        data = _ask(f"{self._url}/api/v1/query?{asked}", "settings/slo.yaml: prometheus")["data"]
        return [Sample(found["metric"], float(found["value"][1])) for found in data["result"]]

    def alerts(self) -> list[Alert]:
        """Alerts that are pending or firing. Raises ServerError."""
        data = _ask(f"{self._url}/api/v1/alerts", "settings/slo.yaml: prometheus")["data"]
        return [Alert("", a["labels"], a["annotations"], a["state"], a["activeAt"]) for a in data["alerts"]]


class AlertmanagerApi:
    """`url`: such as http://127.0.0.1:9093. Blocks."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def alerts(self) -> list[Alert]:
        """All that fire now, silenced ones too. Raises ServerError."""
        found = _ask(f"{self._url}/api/v2/alerts", _ALERTMANAGER)
        return [
            Alert(
                a["fingerprint"],
                a["labels"],
                a["annotations"],
                a["status"]["state"],
                a["startsAt"],
                tuple(a["status"]["silencedBy"]),
                tuple(a["status"]["inhibitedBy"]),
            )
            for a in found
        ]

    def silences(self) -> dict[str, Silence]:
        """Those in force, by id. Raises ServerError."""
        found = _ask(f"{self._url}/api/v2/silences", _ALERTMANAGER)
        return {
            s["id"]: Silence(s["id"], s["createdBy"], s["comment"], s["endsAt"])
            for s in found
            if s["status"]["state"] == "active"
        }

    def silence(
        self, matchers: Mapping[str, str], start: datetime, end: datetime, author: str, comment: str
    ) -> str:
        """Silences the alerts that have these labels, and returns the silence's id. Raises ServerError."""
        body = {
            "matchers": [
                {"name": name, "value": value, "isRegex": False, "isEqual": True}
                for name, value in matchers.items()
            ],
            "startsAt": start.isoformat(),
            "endsAt": end.isoformat(),
            "createdBy": author,
            "comment": comment,
        }
        told = _ask(f"{self._url}/api/v2/silences", _ALERTMANAGER, body)
        return str(told["silenceID"])


def _ask(url: str, setting: str, body: Mapping[str, Any] | None = None) -> Any:
    if not url.startswith(("http://", "https://")):
        raise ServerError(f"{setting}: {url!r} does not begin with http:// or https://")
    request = urllib.request.Request(  # noqa: S310 - checked to be http above
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - checked to be http
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise ServerError(f"{url}: HTTP {error.code}: {error.read(500).decode(errors='replace')}") from error
    except (OSError, ValueError) as error:
        raise ServerError(f"{url} does not answer ({error}); start it, or correct {setting}") from error
