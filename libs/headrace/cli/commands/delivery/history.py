"""`headrace deliver history`: what was deployed, how it ended, and the four figures of delivery."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.text import Text

from headrace.cli.commands.delivery.options import refusing
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, out, place
from headrace.cli.tables import headed_table
from headrace.delivery.figures import Figures, figures
from headrace.delivery.records import Deployment, Result, read

_STYLES = {Result.SUCCEEDED: "green", Result.ROLLED_BACK: "yellow", Result.FAILED: "red"}


@refusing
def history(
    home: Home = DEFAULT_HOME,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="Of so many days.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show the deployments, the newest last, and what they say of delivery: how often, how fast, how often badly."""
    layout, now, span = place(home), datetime.now(UTC), timedelta(days=days)
    found = read(layout.deployment_log)
    told = figures(found, now, span)
    recent = [d for d in found if d.began >= now - span]
    if as_json:
        print(
            json.dumps(
                {"deployments": [asdict(d) for d in recent], "figures": asdict(told)}, default=str, indent=2
            )
        )
        return
    table = headed_table("began", "version", "target", "result", "by", "services")
    for each in recent:
        table.add_row(*_row(each))
    out.print(table)
    for line in _lines(told, days):
        out.print(line)


def _row(deployment: Deployment) -> tuple[str | Text, ...]:
    result = Text(str(deployment.result), style=_STYLES.get(deployment.result, ""))
    if deployment.why:
        # The whole of it is in the record; the last lines of a log may be, too.
        result.append(f" ({deployment.failed_service}: {deployment.why.splitlines()[0]})")
    began = deployment.began.astimezone().isoformat(" ", "minutes")
    services = ", ".join(deployment.services)
    return (
        began,
        Text(deployment.version),
        Text(deployment.target),
        result,
        Text(deployment.author),
        Text(services),
    )


def _lines(told: Figures, days: int) -> list[str]:
    ratio = "–" if told.failure_ratio is None else f"{told.failure_ratio:.0%}"
    return [
        f"\nin {days} days: {told.succeeded} succeeded, {told.rolled_back} rolled back, {told.failed} failed",
        f"deployment frequency     {told.per_day:.2f} a day",
        f"lead time for changes    {_time(told.lead_s)}",
        f"change failure rate      {ratio}",
        f"recovery from a failed   {_time(told.recovery_s)}",
    ]


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else str(timedelta(seconds=round(seconds)))
