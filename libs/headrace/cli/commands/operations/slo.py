"""`headrace slo`: what is left of the objectives of pipelines, what fires, and silence for maintenance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from headrace.cli.commands.models.options import user
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, fail, out, place, seconds
from headrace.cli.diagnosis import alert_files
from headrace.cli.tables import headed_table
from headrace.hop.config import ConfigError
from headrace.slo import alert_names
from headrace.slo.budgets import Standing, standings
from headrace.slo.servers import Alert, AlertmanagerApi, ServerError

slo = typer.Typer(help="Objectives of pipelines: error budgets, alerts, silence.", no_args_is_help=True)
_STYLES = {"kept": "green", "burning": "yellow", "broken": "bold red", "no data": "dim"}


@slo.command()
def status(as_json: AsJson = False, home: Home = DEFAULT_HOME) -> None:
    """How much of each budget is left, which alerts fire, and what to do. Asks Prometheus, or monitoring. Exit
    code 1 if one is broken."""
    layout = place(home)
    with _refusals_told():
        api = alert_files.prometheus(layout)
        found = standings(api)
        known = alert_names()
        alerts = [a for a in api.alerts() if a.labels.get("alertname") in known]
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


@slo.command()
def silence(
    pipeline: Annotated[str, typer.Option("--pipeline", help="Only alerts of this pipeline.")] = "",
    alert: Annotated[str, typer.Option("--alert", help="Only this alert.")] = "",
    duration: Annotated[str, typer.Option("--for", help="How long, such as 30m, 2h or 1d.")] = "1h",
    reason: Annotated[str, typer.Option("--reason", help="Why; Alertmanager shows it.")] = "maintenance",
    home: Home = DEFAULT_HOME,
) -> None:
    """Tell nobody of alerts for a while, for maintenance. Without --pipeline and --alert: of no alert of headrace."""
    for_s, layout = seconds(duration, "--for"), place(home)
    known = alert_names()
    if alert and alert not in known:
        fail(f"--alert {alert!r}: there is no such alert; there are: {', '.join(known)}", code=2)
    start = datetime.now(UTC)
    end = start + timedelta(seconds=for_s)
    matchers = {k: v for k, v in (("pipeline", pipeline), ("alertname", alert)) if v}
    with _refusals_told():
        named = alert_files.settings(layout).alertmanager
        if not named:
            fail("settings/slo.yaml names no alertmanager: silence alerts on the console's page Incidents")
        api = AlertmanagerApi(named)
        identity = api.silence(matchers, start, end, user(), reason)
    out.print(f"[green]silent[/] until {end:%Y-%m-%d %H:%M} UTC; {identity}")
    out.print(f"→ to end it earlier: amtool silence expire {identity}", style="bold", soft_wrap=True)


@contextmanager
def _refusals_told() -> Iterator[None]:
    """What is refused within ends the command with its sentences."""
    try:
        yield
    except (ConfigError, ServerError) as error:
        fail(str(error))


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
