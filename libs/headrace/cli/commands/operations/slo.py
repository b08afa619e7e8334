"""`headrace slo`: the promises of pipelines as alerts of Prometheus, how much of them is left, and silence for maintenance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from headrace.cli.commands.models.options import user
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, fail, out, place, seconds
from headrace.cli.diagnosis import alert_files
from headrace.cli.tables import headed_table
from headrace.hop.config import ConfigError
from headrace.pipeline import DocumentError
from headrace.slo import SloSettings, alert_names, slos
from headrace.slo.budgets import Standing, standings
from headrace.slo.files import RuleFilesError, check, differing, write
from headrace.slo.servers import AlertmanagerApi, Firing, PrometheusApi, ServerError

slo = typer.Typer(help="Promises of pipelines: alerts, error budgets, silence.", no_args_is_help=True)
_STYLES = {"kept": "green", "burning": "yellow", "broken": "bold red", "no data": "dim"}


@slo.command()
def rules(
    show: Annotated[bool, typer.Option("--print", help="Only print the files.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Write the rules for Prometheus and the configuration of Alertmanager into HOME/monitoring."""
    layout = place(home)
    with _refusals_told():
        settings = alert_files.settings(layout)
        files = alert_files.made(layout, settings)
        if show:
            for name, text in files.items():
                print(f"# --- {name}\n{text}")
            return
        changed = write(layout.alerts, files)
    for name in files:
        out.print(f"[green]{'written' if name in changed else 'as before'}[/] {layout.alerts / name}")
    _told_to(settings)
    out.print(
        f"→ prometheus --config.file={layout.alerts / 'prometheus.yml'}; "
        f"prometheus-alertmanager --config.file={layout.alerts / 'alertmanager.yml'}; "
        "if they run, send them SIGHUP",
        style="bold",
        soft_wrap=True,
    )


@slo.command("check")
def check_rules(home: Home = DEFAULT_HOME) -> None:
    """Check objectives, settings and the files in HOME/monitoring. Exit code 1 if something is wrong or outdated."""
    layout = place(home)
    with _refusals_told():
        settings = alert_files.settings(layout)
        files = alert_files.made(layout, settings)
        missing = check(files)
    out.print("[green]ok[/] objectives and settings")
    for program in missing:
        err.print(f"not checked by {program}, which is not installed", style="yellow")
    _told_to(settings)
    if outdated := differing(layout.alerts, files):
        fail(f"not as documents and settings say: {', '.join(outdated)}; write them by: headrace slo rules")
    out.print("[green]ok[/] the files are current")


@slo.command()
def status(as_json: AsJson = False, home: Home = DEFAULT_HOME) -> None:
    """How much of each promise is left, which alerts fire, and what to do. Asks Prometheus. Exit code 1 if one is broken."""
    layout = place(home)
    with _refusals_told():
        settings = alert_files.settings(layout)
        api = PrometheusApi(settings.prometheus)
        promised = slos(alert_files.promised(layout), settings.pace, settings.default_availability)
        found = standings(promised, api)
        alerts = [a for a in api.alerts() if a.labels.get("alertname") in alert_names()]
    if as_json:
        told = {
            "objectives": [s.told() for s in found],
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
    for_s = seconds(duration, "--for")
    if alert and alert not in alert_names():
        fail(f"--alert {alert!r}: there is no such alert; there are: {', '.join(alert_names())}", code=2)
    start = datetime.now(UTC)
    end = start + timedelta(seconds=for_s)
    matchers = {k: v for k, v in (("pipeline", pipeline), ("alertname", alert)) if v}
    with _refusals_told():
        api = AlertmanagerApi(alert_files.settings(place(home)).alertmanager)
        identity = api.silence(matchers, start, end, user(), reason)
    out.print(f"[green]silent[/] until {end:%Y-%m-%d %H:%M} UTC; {identity}")
    out.print(f"→ to end it earlier: amtool silence expire {identity}", style="bold", soft_wrap=True)


@contextmanager
def _refusals_told() -> Iterator[None]:
    """What is refused within ends the command with its sentences."""
    try:
        yield
    except DocumentError as error:
        for problem in error.problems:
            err.print(str(problem), markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except (ConfigError, RuleFilesError, ServerError) as error:
        fail(str(error))


def _told_to(settings: SloSettings) -> None:
    if not (settings.page_webhook or settings.ticket_webhook):
        err.print(
            "nobody is told of alerts: set page_webhook and ticket_webhook in settings/slo.yaml",
            style="yellow",
        )


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


def _alert(alert: Firing) -> Text:
    severity = alert.labels.get("severity", "")
    text = Text(
        f"{severity} {alert.labels['alertname']}", style="bold red" if severity == "page" else "yellow"
    )
    text.append(f" ({alert.state}) {alert.annotations.get('summary', '')}", style="default")
    step, page = alert.annotations.get("next_step", ""), alert.annotations.get("runbook", "")
    return text.append(f"\n  → {step}; {Path(page)}", style="bold")
