"""`headrace slo status`: what is left of the objectives of pipelines, and what fires."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from headrace.cli.console import DEFAULT_HOME, AsJson, Home, fail, out, place
from headrace.cli.diagnosis import alert_files
from headrace.cli.tables import headed_table
from headrace.hop.config import ConfigError
from headrace.slo import alert_names
from headrace.slo.budgets import Standing, standings
from headrace.slo.servers import Alert, ServerError

slo = typer.Typer(help="Objectives of pipelines: error budgets, alerts.", no_args_is_help=True)
_STYLES = {"kept": "green", "burning": "yellow", "broken": "bold red", "no data": "dim"}


@slo.command()
def status(as_json: AsJson = False, home: Home = DEFAULT_HOME) -> None:
    """How much of each budget is left, which alerts fire, and what to do. Asks Prometheus, or monitoring. Exit
    code 1 if one is broken."""
    try:
        api = alert_files.prometheus(place(home))
        found, known = standings(api), alert_names()
        alerts = [a for a in api.alerts() if a.labels.get("alertname") in known]
    except (ConfigError, ServerError) as error:
        fail(str(error))
    if as_json:
        told = {
            "objectives": [{**asdict(s), "state": s.state} for s in found],
            "alerts": [{**a.labels, **a.annotations, "state": a.state, "since": a.since} for a in alerts],
        }
        print(json.dumps(told, indent=1))
    else:
        out.print(_objectives(found))
        for alert in alerts:
            out.print(_alert(alert), soft_wrap=True)
        if not alerts:
            out.print("no alert fires", style="green")
    if any(s.state == "broken" for s in found):
        raise typer.Exit(1)


def _objectives(found: list[Standing]) -> Table:
    table = headed_table("pipeline", "objective", "promised", "now", "budget left", "burns", "")
    for s in found:
        table.add_row(
            s.pipeline,
            s.objective,
            f"{s.target * 100:.6g} %",
            _percent(None if s.error_ratio is None else 1 - s.error_ratio),
            _percent(s.budget_left),
            "" if s.burn is None else f"{s.burn:.2g}x",
            Text(s.state, style=_STYLES[s.state]),
        )
    return table


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.5g} %"


def _alert(alert: Alert) -> Text:
    severity = alert.labels.get("severity", "")
    text = Text(
        f"{severity} {alert.labels['alertname']}", style="bold red" if severity == "page" else "yellow"
    )
    text.append(f" ({alert.state}) {alert.annotations.get('summary', '')}", style="default")
    step, page = alert.annotations.get("next_step", ""), alert.annotations.get("runbook", "")
    return text.append(f"\n  → {step}; {Path(page)}", style="bold")
