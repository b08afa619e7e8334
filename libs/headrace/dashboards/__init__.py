"""Dashboards for Grafana, from one description: `python -m headrace.dashboards FOLDER` writes them."""

from headrace.dashboards.debug import DEBUG
from headrace.dashboards.executive import EXECUTIVE
from headrace.dashboards.grafana import grafana
from headrace.dashboards.on_call import ON_CALL
from headrace.dashboards.panel import Dashboard, Panel

DASHBOARDS = (EXECUTIVE, ON_CALL, DEBUG)

__all__ = ["DASHBOARDS", "DEBUG", "EXECUTIVE", "ON_CALL", "Dashboard", "Panel", "grafana"]
