"""Alerts that fire, each with what to do and who keeps it quiet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from headrace.slo.servers import Alert, AlertmanagerApi, ServerError, Silence
from services.monitoring.alerts.watch import Watch
from services.monitoring.console import faults
from services.monitoring.console.incidents.runbooks import Runbooks, named
from services.monitoring.console.known import Reach, notice
from services.monitoring.console.threads import Threads
from services.monitoring.ports import Log

ALERTMANAGER = "Alertmanager"
MAX_HOURS = 168
_MAX_REASON = 500
_UNSET = (
    "It is not known what fires: monitoring reads no processes here (cost, alerts.rules), and no Alertmanager is set"
    " (alertmanager)."
)
_SEVERITIES = {"page": 0, "ticket": 1}


class Incidents:
    """`alertmanager`: it, or monitoring itself; None: neither knows. `now`: the present, in UTC."""

    def __init__(
        self,
        alertmanager: AlertmanagerApi | Watch | None,
        runbooks: Runbooks,
        threads: Threads,
        reach: Reach,
        now: Callable[[], datetime],
        log: Log,
    ) -> None:
        self._alertmanager = alertmanager
        self._runbooks = runbooks
        self._threads = threads
        self._reach = reach
        self._now = now
        self._log = log

    async def page(self) -> dict[str, Any]:
        """What fires, pages first, and what is silenced."""
        guides = await self._guides()
        page = {
            "at": self._now().isoformat(),
            "set": self._alertmanager is not None,
            "alerts": [],
            "guides": guides,
        }
        if self._alertmanager is None:
            return {**page, "notices": [notice("watch", _UNSET)]}
        try:
            alerts, silences = await self._threads.run(partial(_read, self._alertmanager))
        except (ServerError, OSError) as error:
            return {**page, "notices": [self._away(error)]}
        self._reach.back(ALERTMANAGER)
        rows = [await self._row(alert, silences) for alert in alerts]
        rows.sort(key=lambda r: (r["silenced"], _SEVERITIES.get(r["severity"], 2), r["since"], r["name"]))
        return {**page, "alerts": rows, "notices": []}

    async def runbook(self, name: str) -> dict[str, Any]:
        """One runbook. Raises Fault."""
        try:
            found = await self._threads.run(partial(self._runbooks.html, name))
        except OSError as error:
            self._reach.away("the runbooks", error)
            raise faults.unreachable("the runbooks") from None
        if found is None:
            raise faults.no_page(f"/incidents/runbooks/{name}")
        return {"at": self._now().isoformat(), "notices": [], "name": name, "html": found}

    async def silence(self, fingerprint: str, hours: str, author: str, reason: str) -> dict[str, Any]:
        """Keeps one alert quiet for some hours. Raises Fault: nothing was changed."""
        span, why = _hours(hours), _reason(reason)
        alertmanager = self._alertmanager
        if alertmanager is None:
            raise faults.no_alertmanager(_UNSET)
        try:
            alerts = await self._threads.run(alertmanager.alerts)
            alert = next((a for a in alerts if a.fingerprint == fingerprint), None)
            if alert is None:
                raise faults.no_alert(fingerprint)
            now = self._now()
            ends = now + timedelta(hours=span)
            identity = await self._threads.run(
                partial(alertmanager.silence, alert.labels, now, ends, author, why)
            )
        except (ServerError, OSError) as error:
            self._away(error)
            raise faults.unreachable(ALERTMANAGER) from None
        name = alert.labels.get("alertname", "")
        self._log.info("an alert was silenced from the console", alert=name, hours=span, author=author)
        return {"silence": identity, "alert": name, "labels": dict(alert.labels), "until": ends.isoformat()}

    async def _guides(self) -> list[str]:
        try:
            return await self._threads.run(self._runbooks.guides)
        except OSError:
            return []

    async def _row(self, alert: Alert, silences: Mapping[str, Silence]) -> dict[str, Any]:
        told = dict(alert.annotations)
        runbook = named(told.get("runbook", ""))
        quiet = [silences[one] for one in alert.silences if one in silences]
        return {
            "fingerprint": alert.fingerprint,
            "name": alert.labels.get("alertname", "(no name)"),
            "severity": alert.labels.get("severity", ""),
            "labels": {k: v for k, v in sorted(alert.labels.items()) if k not in ("alertname", "severity")},
            "summary": told.get("summary", ""),
            "next_step": told.get("next_step", ""),
            "since": alert.since,
            "silenced": bool(alert.silences),
            "inhibited": bool(alert.inhibitors),
            "silences": [{"by": s.author, "why": s.comment, "until": s.end} for s in quiet],
            "runbook": runbook,
            "html": await self._runbook_of(runbook),
        }

    async def _runbook_of(self, name: str) -> str | None:
        try:
            return await self._threads.run(partial(self._runbooks.html, name)) if name else None
        except OSError:
            return None  # said on its own page; the alert matters more

    def _away(self, error: Exception) -> dict[str, str]:
        told = self._reach.away(ALERTMANAGER, OSError(str(error)))
        told["text"] = "Alertmanager does not answer, so it is not known what fires. The log says why."
        return told


def _read(alertmanager: AlertmanagerApi | Watch) -> tuple[list[Alert], dict[str, Silence]]:
    return alertmanager.alerts(), alertmanager.silences()


def _hours(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_HOURS):
        raise faults.malformed("hours", f"is a whole number from 1 to {MAX_HOURS}")
    return int(text)


def _reason(text: str) -> str:
    text = text.strip()
    if not text or len(text) > _MAX_REASON:
        raise faults.malformed("reason", f"says why, in 1 to {_MAX_REASON} characters")
    return text
