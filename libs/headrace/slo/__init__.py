"""Objectives of pipelines as rules for Prometheus, and where its alerts go: pure functions from documents and settings to files.

`generate` makes all files; `problems` says which objectives could never alert.
"""

from headrace.slo.catalogue import alert_names, alerts
from headrace.slo.generate import Places, generate
from headrace.slo.levels import LEVELS, PAGE, TICKET, Level, levels
from headrace.slo.objectives import Slo, problems, slos
from headrace.slo.settings import Maintenance, SloSettings

__all__ = [
    "LEVELS",
    "PAGE",
    "TICKET",
    "Level",
    "Maintenance",
    "Places",
    "Slo",
    "SloSettings",
    "alert_names",
    "alerts",
    "generate",
    "levels",
    "problems",
    "slos",
]
