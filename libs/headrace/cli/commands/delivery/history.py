"""`headrace deliver history`: what was deployed, and how it ended."""

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
from headrace.delivery.records import Deployment, Result, read

_STYLES = {Result.SUCCEEDED: "green", Result.ROLLED_BACK: "yellow", Result.FAILED: "red"}


@refusing
def history(
    home: Home = DEFAULT_HOME,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="Of so many days.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show the deployments, the newest last."""
    since = datetime.now(UTC) - timedelta(days=days)
    recent = [d for d in read(place(home).deployment_log) if d.began >= since]
    if as_json:
        print(json.dumps({"deployments": [asdict(d) for d in recent]}, default=str, indent=2))
        return
    table = headed_table("began", "version", "target", "result", "by", "services")
    for each in recent:
        table.add_row(*_row(each))
    out.print(table)


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
