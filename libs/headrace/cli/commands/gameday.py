"""`headrace gameday FAULT…`: breaks a running system on purpose, and says whether what must come of it came."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.cli.commands.lifecycle import status
from headrace.cli.commands.lifecycle.up import PIPELINE
from headrace.cli.consent import agree
from headrace.cli.console import DEFAULT_HOME, Home, again, command, err, fail, out, place
from headrace.cli.diagnosis import alert_files
from headrace.cli.gameday import settings as own_settings
from headrace.cli.gameday.faults import FAULTS, Fault
from headrace.cli.gameday.guard import guarded
from headrace.cli.gameday.play import played
from headrace.cli.gameday.report import Report
from headrace.cli.gameday.stage import GameDayError, Stage
from headrace.cli.gameday.traffic import Traffic
from headrace.cli.gameday.undo import Undo
from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import daemon
from headrace.cli.supervision.control import ControlError
from headrace.hop.config import ConfigError
from headrace.slo.servers import ServerError

_MOST_ROWS = 200
_CALLERS = 4


def gameday(
    faults: Annotated[list[str] | None, typer.Argument(help="Names of faults; none: shows them.")] = None,
    home: Home = DEFAULT_HOME,
    production: Annotated[
        bool, typer.Option("--production", help="Also where settings/gameday.yaml says production: true.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Only undo what a game day has left.")] = False,
    patience: Annotated[
        float, typer.Option("--patience", min=1, help="Seconds for an alert, and for recovery.")
    ] = 180.0,
    pipeline: Annotated[str, typer.Option("--pipeline", help="Which is asked meanwhile.")] = PIPELINE,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="Rows for it, one JSON object per line.", dir_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report for programs.")] = False,
) -> None:
    """Do faults to the running system, one after the other: does the alert come, what is lost, is all well again by itself?

    Sends traffic of its own with the demo tenant's key. Needs Prometheus and Alertmanager (headrace slo rules). Exit code 1 if
    something is not as expected. What a fault changes is undone at its end, by Ctrl-C, and by a guard if the command is killed.
    """
    layout = place(home)
    if undo:
        _undone(layout)
        return
    if not faults:
        _shown()
        return
    if pipeline != PIPELINE and rows is None:
        fail(f"--pipeline {pipeline}: give rows for it, too (--rows FILE)", code=2)
    if unknown := [name for name in faults if name not in FAULTS]:
        fail(f"there is no fault {unknown[0]!r}; there are: {', '.join(FAULTS)}", code=2)
    chosen = [FAULTS[name] for name in dict.fromkeys(faults)]
    try:
        stage = _stage(layout, patience, production)
        agree("\n".join(f"{f.expected.name}: {f.expected.what}; callers: {f.harm}" for f in chosen))
        report = _played(stage, chosen, pipeline, rows)
    except (ConfigError, ControlError, ServerError, GameDayError) as error:
        fail(str(error))
    files = report.write(layout.run / "gameday")
    if as_json:
        print(report.json())
    else:
        _told(report)
    err.print(f"report: {files[0]}, {files[1]}", soft_wrap=True)
    if not report.as_expected:
        raise typer.Exit(1)


def _shown() -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("fault", "what is done", "what callers notice", "alert that must come"):
        table.add_column(head)
    for name, fault in FAULTS.items():
        table.add_row(name, fault.expected.what, fault.harm, fault.expected.alert)
    out.print(table)
    out.print(f"→ {command()} gameday {next(iter(FAULTS))}", style="bold")


def _told(report: Report) -> None:
    """One line a fault, and what to do next."""
    for expected, figures in report.played:
        broken = expected.broken(figures)
        verdict = f"not as expected: {'; '.join(broken)}" if broken else "as expected"
        out.print(f"{expected.name}: {verdict}", style="red" if broken else "green", soft_wrap=True)
        out.print(f"  {figures.sentence()}", soft_wrap=True)
    for name, why in report.not_played.items():
        out.print(f"{name}: not played: {why}", style="yellow", markup=False, soft_wrap=True)
    if not report.as_expected:
        out.print(f"→ {command()} doctor", style="bold")


def _undone(layout: Layout) -> None:
    undo = Undo(layout.run / "gameday")
    if left := undo.pending():
        agree(f"the fault {left} of an earlier game day is undone")
    done = undo.apply()
    for line in done or ["nothing is to be undone"]:
        out.print(line, soft_wrap=True)


def _stage(layout: Layout, patience: float, production: bool) -> Stage:
    if own_settings.read(layout).production and not production:
        fail(
            f"{layout.override('gameday')} says production: true: people depend on this installation. "
            "If it shall be broken all the same: --production"
        )
    if not daemon.running(layout):
        fail(f"headrace is not running here; start it: {again('up', layout.home)}")
    if layout.home.stat().st_uid != os.geteuid():
        fail(
            f"{layout.home} belongs to another user, who must do this: files that are put back would be yours"
        )
    undo = Undo(layout.run / "gameday")
    if left := undo.pending():
        fail(f"the fault {left} of an earlier game day is not undone: {command()} gameday --undo")
    stage = Stage(layout, alert_files.settings(layout), undo, patience)
    if not stage.value('sum(up{job="headrace"})'):
        fail(f"{stage.settings.prometheus} does not watch this installation; see: headrace slo rules")
    return stage


def _played(stage: Stage, chosen: list[Fault], pipeline: str, rows: Path | None) -> Report:
    found = status.read(stage.layout)
    asked = _rows(rows or stage.layout.requests)
    report = Report(datetime.now(UTC), stage.settings.pace)
    key = found["demo_key"] or ""
    with (
        guarded(stage.layout.run / "gameday"),
        Traffic(found["endpoints"]["grpc"], key, pipeline, asked, _CALLERS) as traffic,
    ):
        traffic.check()
        for fault in chosen:
            name = fault.expected.name
            try:
                if why := fault.hindered(stage):
                    raise GameDayError(why)
                with _progress() as progress:
                    shown = progress.add_task(name, total=None)
                    figures = played(fault, stage, traffic, partial(_say, progress, shown, name))
            except (GameDayError, ControlError, ServerError) as error:
                report.not_played[name] = str(error)
                err.print(f"{name}: {error}", style="yellow", markup=False, soft_wrap=True)
            except KeyboardInterrupt:
                report.not_played[name] = "interrupted"
                break
            else:
                report.played.append((fault.expected, figures))
    return report


def _progress() -> Progress:
    """What is waited for, and for how long; only on a terminal."""
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def _say(progress: Progress, shown: TaskID, name: str, line: str) -> None:
    progress.update(shown, description=f"{name}: {line}")
    err.print(f"{name}: {line}", markup=False, soft_wrap=True)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open() as lines:
            found = [json.loads(line) for line, _ in zip(lines, range(_MOST_ROWS), strict=False)]
    except ValueError as error:
        fail(f"{path}: {error}")
    if not found or not all(isinstance(row, dict) for row in found):
        fail(f"{path} has no rows: one JSON object per line")
    return found
