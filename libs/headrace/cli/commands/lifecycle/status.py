"""`headrace status`: what runs, and where to reach it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import typer
from rich.text import Text

from headrace.access import changes
from headrace.audit.journal_verification import torn_lines
from headrace.catalog.errors import RecordsError
from headrace.cli.commands.audit.place import journals
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, again, err, fail, out, place
from headrace.cli.diagnosis import (
    broken_pipelines,
    encryption_at_rest,
    live_state,
    quarantined_models,
    readiness_attestations,
)
from headrace.cli.diagnosis.live_state import LiveState
from headrace.cli.installation import control_place, ports, secrets
from headrace.cli.installation.layout import Layout
from headrace.cli.installation.settings import Installation
from headrace.cli.supervision import daemon
from headrace.cli.supervision.control import ControlError
from headrace.cli.tables import headed_table
from headrace.hop.config import ConfigError

_STYLES = {"ready": "green", "starting": "yellow", "waiting": "red", "unready": "red"}


def status(
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show the processes and the endpoints. Exit code 1 if nothing runs."""
    layout = place(home)
    try:
        found = read(layout) if daemon.running(layout) else None
        documents = broken_pipelines.look(layout) if found else None
    except (ControlError, ConfigError) as error:
        fail(str(error))
    live = live_state.read(found["services"]) if found else LiveState()
    if as_json:
        broken = broken_pipelines.told(documents, live.serving) if documents else []
        told = {
            **(found or _nothing(layout)),
            "what_is_live": live.to_json(),
            "quarantined_pipelines": broken,
        }
        print(json.dumps(told, indent=2))
    elif found is not None and documents is not None:
        _print(found)
        for problem in live.problems:
            out.print(f"\n{problem}", style="yellow", markup=False, soft_wrap=True)
        lines = broken_pipelines.lines(documents, live.serving)
        for line in [*lines, f"→ {broken_pipelines.FIX}"] if lines else ():
            out.print(Text(line, style="red"), soft_wrap=True)
    else:
        err.print(f"headrace is not running here; start it: {again('up', layout.home)}", soft_wrap=True)
    if found is None:
        raise typer.Exit(1)


def read(layout: Layout) -> dict[str, Any]:
    """What `--json` prints of what runs. Raises ControlError."""
    told = daemon.status(layout)
    installation = Installation(layout, told["shape"], ports.load(layout.ports))
    endpoints = {
        "grpc": installation.plaintext,
        "grpc_tls": installation.tls,
        "http": f"http://{installation.plaintext}",
        "console": f"http://{installation.console}",
    }
    return _told(layout, told["shape"], endpoints, told["services"], _tenants_problem(layout))


def _nothing(layout: Layout) -> dict[str, Any]:
    endpoints = dict.fromkeys(("grpc", "grpc_tls", "http", "console"))
    return _told(layout, None, endpoints, {}, None)


def _told(
    layout: Layout,
    shape: str | None,
    endpoints: Mapping[str, str | None],
    services: Mapping[str, Any],
    tenants_problem: str | None,
) -> dict[str, Any]:
    return {
        "shape": shape,
        "endpoints": endpoints,
        "ca_file": str(layout.ca),
        "demo_key": secrets.demo_key(layout),
        "prometheus_targets": str(layout.targets),
        "services": services,
        "models_in_quarantine": quarantined_models.models(layout) if services else [],
        "encryption_at_rest": _at_rest(layout),
        "tenants_problem": tenants_problem,
        "torn_lines": [f"torn: {line}" for line in torn_lines(journals(layout))],
    }


def _at_rest(layout: Layout) -> str:
    try:
        said = readiness_attestations.read(layout)
    except ConfigError as error:
        return str(error)
    return encryption_at_rest.summary(layout, said, datetime.now(UTC).date())


def _tenants_problem(layout: Layout) -> str | None:
    try:
        with control_place.records(layout) as records:
            return "\n".join(changes.read(records).problems) or None
    except RecordsError as error:
        return str(error)


def _print(found: dict[str, Any]) -> None:
    table = headed_table("service", "state", "pid", "metrics")
    for name, service in found["services"].items():
        state = service["state"]
        style = _STYLES.get(state, "")
        pid = "" if service["pid"] is None else str(service["pid"])
        # A supervisor that was started before an upgrade says no version.
        shown = f"{name} ({version})" if (version := service.get("version")) else name
        table.add_row(Text(shown), f"[{style}]{state}[/]" if style else state, pid, service["metrics"] or "")
    out.print(f"shape [bold]{found['shape']}[/]")
    for name, address in found["endpoints"].items():
        out.print(f"{name:9} {address}")
    out.print(f"{'CA':9} {found['ca_file']}", soft_wrap=True)
    out.print(f"{'metrics':9} {found['prometheus_targets']} (file_sd_configs of Prometheus)", soft_wrap=True)
    out.print(f"{'at rest':9} {found['encryption_at_rest']}\n", markup=False, soft_wrap=True)
    out.print(table)
    for name, service in found["services"].items():
        if why := service["trouble"] or service["reason"]:
            out.print(f"\n{name}: {why}", markup=False, soft_wrap=True)
    if problem := found["tenants_problem"]:
        text = f"\n{problem}\n→ the last good tenants and keys are in force until then"
        out.print(text, style="red", markup=False, soft_wrap=True)
    for line in found["torn_lines"]:
        out.print(f"\n{line}", style="yellow", markup=False, soft_wrap=True)
    for model in found["models_in_quarantine"]:
        text = f"\n{quarantined_models.sentence(model)}\n→ {model['remedy']}"
        out.print(text, style="yellow", markup=False, soft_wrap=True)
