"""`headrace readiness`: what is missing before people may depend on this installation."""

from __future__ import annotations

import contextlib
import io
import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from headrace.cli.commands.lifecycle.doctor import show
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, fail, out, place
from headrace.cli.diagnosis import readiness as checklists
from headrace.cli.diagnosis import readiness_attestations
from headrace.cli.diagnosis.doctor_checks import Level
from headrace.cli.installation.layout import Layout, service_of
from headrace.cli.supervision import probes, prometheus_targets
from headrace.hop.config import ConfigError

# Entities compared per view: enough to see that the store is another one, and done within seconds.
_SAMPLE = 20


def readiness(
    as_json: AsJson = False,
    features: Annotated[
        bool, typer.Option("--features/--no-features", help="Also compare online features with offline ones.")
    ] = True,
    home: Home = DEFAULT_HOME,
) -> None:
    """Check the lists for going to production and being there. Exit code 1 if something is missing."""
    layout = place(home)
    try:
        evidence = checklists.Evidence(
            datetime.now(UTC).date(),
            readiness_attestations.read(layout),
            _metrics(layout),
            lambda: _parity(layout) if features else None,
        )
    except ConfigError as error:
        fail(str(error))
    items = list(checklists.examine(layout, evidence))
    if as_json:
        told = [
            {
                "checklist": item.checklist,
                "item": item.finding.what,
                "level": item.finding.level.value,
                "found": item.finding.found,
                "fix": item.finding.fix,
            }
            for item in items
        ]
        print(json.dumps(told, indent=1))
    else:
        for name in (checklists.PRE_PRODUCTION, checklists.PRODUCTION):
            out.print(name, style="bold")
            out.print(show(item.finding for item in items if item.checklist == name))
    if any(item.finding.level is Level.BAD for item in items):
        raise typer.Exit(1)


def _metrics(layout: Layout) -> dict[str, str]:
    """Service → its metrics page; of what answers."""
    try:
        places = prometheus_targets.read(layout.targets)
    except FileNotFoundError:
        return {}
    found: dict[str, str] = {}
    for name, page in probes.metrics_pages(places).items():
        if page:  # else headrace status says why
            found[service_of(name)] = found.get(service_of(name), "") + page.decode()
    return found


def _parity(layout: Layout) -> str | None:
    """What is wrong with the online values, "" if nothing; None: there is no store to compare."""
    if not (layout.feast / "feature_store.yaml").exists():
        return None
    # Feast takes a second to import.
    from headrace.featurestore import consistency, writer

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Feast prints as it goes
            reports = list(consistency.check(writer.open_store(layout.feast), _SAMPLE, datetime.now(UTC)))
    except (consistency.CheckError, writer.WriteError) as error:
        return str(error)
    wrong = [report.view for report in reports if not report.good]
    return f"differ: {', '.join(wrong)}" if wrong else ""
