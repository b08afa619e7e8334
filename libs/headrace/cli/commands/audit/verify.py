"""`headrace audit verify`: check the whole log, and that it agrees with the journals and with its witnesses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headrace.audit import NoteError, Report
from headrace.audit import verify as verify_log
from headrace.audit.access import SCOPE
from headrace.audit.contents import Finding
from headrace.audit.notes import Checkpoint
from headrace.audit.settings import Audit
from headrace.audit.witness import TimestampClient, WitnessError
from headrace.cli.commands.audit.place import audit_of, damage_told, key_of, reads_as
from headrace.cli.console import DEFAULT_HOME, Home, command, err, out

_SHOWN = 20
Trusted = Annotated[
    Path | None,
    typer.Option(
        "--trusted",
        help="File of the log's public key, from where you keep it; audit.pub of the home if absent.",
    ),
]


def verify(
    home: Home = DEFAULT_HOME,
    trusted: Trusted = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Check every entry, the checkpoint, the journals and the witnesses. Exit code 1 if something was changed."""
    audit = audit_of(home)
    key = key_of(audit, trusted)
    with damage_told():
        audit.access.allow("verified", reads_as(), [SCOPE])
        witnessed, complaints, harm = _witnessed(audit)
        with _progress() as progress:
            task = progress.add_task("entries", total=None)
            report = verify_log(
                audit.log,
                key,
                journals=audit.journals,
                payloads=audit.payloads,
                witnessed=witnessed,
                progress=lambda done, size: progress.update(task, completed=done, total=size),
            )
    report.notes += complaints
    report.findings += harm
    (_print_json if as_json else _print)(report, list(witnessed), home)
    if not report.holds:
        raise typer.Exit(1)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True)


def _witnessed(audit: Audit) -> tuple[dict[str, Checkpoint], list[str], list[Finding]]:
    """What each witness saw last, what a reader should know of them, and what is a sign of harm."""
    seen: dict[str, Checkpoint] = {}
    told: list[str] = []
    harm: list[Finding] = []
    try:
        clients = audit.witnesses()
    except (OSError, NoteError) as error:
        return {}, [f"witnesses can't be asked: {error}"], []
    for client in clients:
        try:
            if (last := client.last()) is None:
                told.append(f"witness {client.name} has seen no checkpoint of this log yet")
                continue
            seen[client.name] = last
            if isinstance(client, TimestampClient):
                told.append(
                    f"{client.name} stamped {last.size} entries at {client.time():%Y-%m-%d %H:%M:%S} UTC"
                )
        except WitnessError as error:
            if error.refused:
                harm.append(Finding(f"witness {client.name}", str(error)))
            else:
                told.append(str(error))
    return seen, told, harm


def _print(report: Report, witnesses: list[str], home: Path) -> None:
    for note in report.notes:
        out.print("note:", style="yellow", end=" ")
        out.print(note, markup=False)
    for finding in report.torn:
        out.print("torn:", style="yellow", end=" ")
        out.print(f"{finding.where}: {finding.text}", markup=False, soft_wrap=True)
    if report.holds:
        by = f", seen by {', '.join(witnesses)}" if witnesses else ""
        of = ", ".join(f"{count} of {source}" for source, count in sorted(report.records.items()))
        out.print("the audit log holds:", style="bold green", end=" ")
        out.print(f"{report.size} entries{by}" + (f" ({of})" if of else ""), markup=False)
        if report.uncovered:
            out.print(f"{report.uncovered} newer entries get their checkpoint within seconds", style="dim")
        return
    for finding in report.findings[:_SHOWN]:
        out.print(f"{finding.where}:", style="bold red", markup=False, end=" ")
        out.print(finding.text, markup=False)
    if len(report.findings) > _SHOWN:
        out.print(f"and {len(report.findings) - _SHOWN} more; --json has them", style="dim")
    err.print(
        f"the audit log does not hold. Next: stop the services ({command()} down), keep {home}/audit as evidence, and compare"
        " with a copy or a witness",
        markup=False,
    )


def _print_json(report: Report, witnesses: list[str], _: Path) -> None:
    told = {
        "holds": report.holds,
        "entries": report.size,
        "uncovered": report.uncovered,
        "root": report.root.hex(),
        "witnesses": witnesses,
        "sources": dict(report.records),
        "findings": [{"where": f.where, "text": f.text} for f in report.findings],
        "torn": [{"where": f.where, "text": f.text} for f in report.torn],
        "notes": report.notes,
    }
    print(json.dumps(told, indent=2))
