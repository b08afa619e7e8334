"""Alerts that fire, each with what to do and who keeps it quiet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from headrace.hop.errors import Code, Fault, Reason
from headrace.slo.servers import Alert, AlertmanagerApi, Silence
from services.monitoring.alerts.watch import Watch
from services.monitoring.console import faults
from services.monitoring.console.incidents.runbooks import Runbooks, named
from services.monitoring.console.reach import Notices, Reach, notice

ALERTMANAGER, RUNBOOKS = "Alertmanager", "the runbooks"
_NO_ANSWER = "Alertmanager does not answer, so it is not known what fires. The log says why."
MAX_HOURS = 168
_MAX_REASON = 500
_UNSET = (
    "It is not known what fires: monitoring reads no processes here (cost), and no Alertmanager is set"
    " (alertmanager)."
)
_GONE = "this alert does not fire any more; nothing was silenced. Look again"
_SEVERITIES = {"page": 0, "ticket": 1}


class Incidents:
    """`alertmanager`: it, or monitoring itself; None: neither knows."""

    def __init__(
        self, alertmanager: AlertmanagerApi | Watch | None, runbooks: Runbooks, reach: Reach
    ) -> None:
        self._alertmanager = alertmanager
        self._runbooks = runbooks
        self._reach = reach

    async def page(self) -> dict[str, Any]:
        """What fires, pages first, and what is silenced."""
        notices: Notices = []
        alerts, silences = await self._firing(notices)
        rows = [await self._row(alert, silences) for alert in alerts]
        rows.sort(key=lambda r: (r["silenced"], _SEVERITIES.get(r["severity"], 2), r["since"], r["name"]))
        return {
            "at": self._reach.at(),
            "set": self._alertmanager is not None,
            "alerts": rows,
            "guides": await self._reach.attempt(RUNBOOKS, self._reach.run(self._runbooks.guides), [], []),
            "notices": notices,
        }

    async def runbook(self, name: str) -> dict[str, Any]:
        """One runbook. Raises Fault."""
        html = partial(self._runbooks.html, name)
        found = await self._reach.need(RUNBOOKS, self._reach.run(html))
        if found is None:
            raise faults.no_page(f"/incidents/runbooks/{name}")
        return {"at": self._reach.at(), "notices": [], "name": name, "html": found}

    async def silence(self, fingerprint: str, hours: str, author: str, reason: str) -> dict[str, Any]:
        """Keeps one alert quiet for some hours. Raises Fault: nothing was changed."""
        span, why = _hours(hours), _reason(reason)
        alertmanager, reach = self._alertmanager, self._reach
        if alertmanager is None:
            raise Fault(Code.FAILED_PRECONDITION, Reason.REASON_NOT_ALLOWED, _UNSET)
        alerts = await reach.need(ALERTMANAGER, reach.run(alertmanager.alerts))
        alert = next((a for a in alerts if a.fingerprint == fingerprint), None)
        if alert is None:
            raise faults.absent(_GONE, fingerprint=fingerprint[:64])
        now = reach.now()
        ends = now + timedelta(hours=span)
        silence = partial(alertmanager.silence, alert.labels, now, ends, author, why)
        identity = await reach.need(ALERTMANAGER, reach.run(silence))
        name = alert.labels.get("alertname", "")
        reach.log.info("an alert was silenced from the console", alert=name, hours=span, author=author)
        return {"silence": identity, "alert": name, "labels": dict(alert.labels), "until": ends.isoformat()}

    async def _firing(self, notices: Notices) -> tuple[list[Alert], dict[str, Silence]]:
        nothing: tuple[list[Alert], dict[str, Silence]] = [], {}
        if self._alertmanager is None:
            notices.append(notice("watch", _UNSET))
            return nothing
        work = self._reach.run(partial(_read, self._alertmanager))
        return await self._reach.attempt(ALERTMANAGER, work, nothing, notices, _NO_ANSWER)

    async def _row(self, alert: Alert, silences: Mapping[str, Silence]) -> dict[str, Any]:
        told = dict(alert.annotations)
        runbook = named(told.get("runbook", ""))
        html = partial(self._runbooks.html, runbook)
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
            "html": await self._reach.attempt(RUNBOOKS, self._reach.run(html), None, []),
        }


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
