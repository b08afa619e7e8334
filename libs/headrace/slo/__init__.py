"""Objectives of pipelines: what documents promise, how fast a budget may burn, and the alerts that tell of it."""

from headrace.slo.levels import LEVELS, PAGE, TICKET, WINDOWS_S, Count, Level, reached
from headrace.slo.objectives import LATENCY, Slo, problems, slos
from headrace.slo.rules import alert_names, alerts, runbook
from headrace.slo.settings import SloSettings

__all__ = [
    "LATENCY",
    "LEVELS",
    "PAGE",
    "TICKET",
    "WINDOWS_S",
    "Count",
    "Level",
    "Slo",
    "SloSettings",
    "alert_names",
    "alerts",
    "problems",
    "reached",
    "runbook",
    "slos",
]
