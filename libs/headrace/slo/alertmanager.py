"""Alertmanager's configuration: who is told, what is told together, what stays silent."""

from __future__ import annotations

from typing import Any

from headrace.slo.burn_rules import NAMES
from headrace.slo.levels import LEVELS, PAGE, TICKET
from headrace.slo.promql import duration
from headrace.slo.settings import SloSettings

# While an alert lasts, it is told again after this time.
_REPEAT_S = {PAGE: 3600.0, TICKET: 86_400.0}
# An alert and those that it explains, which are not sent while it fires, in the whole installation.
EXPLAINS = {
    "CertificateEnding": "CertificateExpiring",
    "CrashLoop": "NotReady|BreakerOpen|Overloaded",
    "DiskWritesFailing": "TelemetryLost|EventsDropped|AuditFailing|CostUntold",
    "EventsDropped": "EventsMissing",
    "FeatureStoreErrors": "FeaturesStale",
    "ModelQuarantined": "ReleaseWaiting",
    "TargetDown": "NotReady|BreakerOpen|Overloaded|Fallbacks|TelemetryLost|EventsDropped|EventsBehind|EventSegmentsAway",
}


def alertmanager(settings: SloSettings) -> dict[str, Any]:
    """The whole file. One notification holds all alerts of one pipeline and severity."""
    muted = {"mute_time_intervals": [m.name for m in settings.maintenance]} if settings.maintenance else {}
    waits = {PAGE: settings.page_group_wait_s, TICKET: settings.ticket_group_wait_s}
    routes = [
        {
            "receiver": severity,
            "matchers": [f'severity="{severity}"'],
            "group_wait": duration(waits[severity] / settings.pace),
            "group_interval": duration(max(settings.group_interval_s / settings.pace, 1)),
            "repeat_interval": duration(max(_REPEAT_S[severity] / settings.pace, 60)),
            **muted,
        }
        for severity in (PAGE, TICKET)
    ]
    return {
        "route": {"receiver": TICKET, "group_by": ["pipeline", "severity"], "routes": routes},
        "receivers": [
            _receiver(PAGE, settings.page_webhook or settings.ticket_webhook),
            _receiver(TICKET, settings.ticket_webhook or settings.page_webhook),
        ],
        "inhibit_rules": [
            *_slower_levels(),
            *(
                {
                    "source_matchers": [f'alertname="Headrace{cause}"'],
                    "target_matchers": [f'alertname=~"Headrace({followers})"'],
                }
                for cause, followers in EXPLAINS.items()
            ),
        ],
        **_intervals(settings),
    }


def _receiver(name: str, url: str) -> dict[str, Any]:
    if not url:
        return {"name": name}
    return {"name": name, "webhook_configs": [{"url": url, "send_resolved": True}]}


def _slower_levels() -> list[dict[str, Any]]:
    """A level of a promise silences the levels behind it: they say the same of a longer time."""
    return [
        {
            "source_matchers": [f'alertname="{name}"', f'speed="{speed}"'],
            "target_matchers": [
                f'alertname="{name}"',
                f'speed=~"{"|".join(map(str, range(speed + 1, len(LEVELS) + 1)))}"',
            ],
            "equal": ["pipeline"],
        }
        for name in NAMES.values()
        for speed in range(1, len(LEVELS))
    ]


def _intervals(settings: SloSettings) -> dict[str, Any]:
    if not settings.maintenance:
        return {}
    return {
        "time_intervals": [
            {
                "name": window.name,
                "time_intervals": [
                    {
                        "times": [{"start_time": window.start, "end_time": window.end}],
                        "weekdays": list(window.weekdays),
                    }
                ],
            }
            for window in settings.maintenance
        ]
    }
