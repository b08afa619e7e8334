"""`headrace outcomes`: what became known of predictions, through the ingress (`post`), and what follows from it (`show`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.commands.requests import accuracy
from headrace.cli.console import DEFAULT_HOME, Home, err, fail, out, place
from headrace.cli.installation import secrets
from headrace.cli.supervision import daemon
from headrace.cli.supervision.control import ControlError
from headrace.client import Headrace, HeadraceError, Outcome, OutcomeCounts

outcomes = typer.Typer(
    help="What became known of predictions: report it, and see how often they were right.",
    no_args_is_help=True,
)
_TIMEOUT_S = 10.0
_PER_CALL = 1000
_KEYS = {"request_id", "row", "name", "value", "time"}


outcomes.command(name="show")(accuracy.show)


@outcomes.command()
def post(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines, each with request_id, name, value and, if wanted, row and time (ISO 8601); `-`: standard input."
        ),
    ],
    home: Home = DEFAULT_HOME,
    key: Annotated[
        str,
        typer.Option(
            envvar="HEADRACE_KEY", help="API key with the scope `outcomes`; the demo key if absent."
        ),
    ] = "",
) -> None:
    """Report outcomes. Reporting the same twice is harmless."""
    layout = place(home)
    try:
        given = _given(file)
        key = key or secrets.demo_key(layout) or ""
        with Headrace(daemon.door(layout), key=key, timeout_s=_TIMEOUT_S) as client:
            counts = _send(client, given)
    except (ValueError, ControlError, HeadraceError) as error:
        fail(str(error))
    out.print(f"[green]{counts.stored}[/] outcome{'' if counts.stored == 1 else 's'} stored")
    if counts.unknown:
        err.print(
            f"{counts.unknown} of predictions that are not known here: made in the last seconds, not recorded, or never made;"
            " posting the file again counts them anew",
            style="yellow",
        )


def _send(client: Headrace, given: list[Outcome]) -> OutcomeCounts:
    stored = unknown = 0
    for start in range(0, len(given), _PER_CALL):
        try:
            counts = client.record_outcomes(given[start : start + _PER_CALL])
            stored, unknown = stored + counts.stored, unknown + counts.unknown
        except HeadraceError:
            if stored:
                err.print(
                    f"the first {stored} were stored; post the file again, which is harmless", style="yellow"
                )
            raise
        if err.is_terminal and len(given) > _PER_CALL:
            err.print(f"{stored} of {len(given)}", style="dim", end="\r")
    return OutcomeCounts(stored, unknown)


def _given(file: Path) -> list[Outcome]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except UnicodeDecodeError:
        raise ValueError(f"{file}: it is not UTF-8") from None
    found = list(read_lines(text.splitlines(), str(file)))
    if not found:
        raise ValueError(f"{file} holds no outcomes")
    return found


def read_lines(lines: Iterable[str], file: str) -> Iterator[Outcome]:
    """The outcomes of JSON lines. Raises ValueError that names file, line and key."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        at = f"{file}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{at}: no JSON ({error})") from None
        if not isinstance(values, dict):
            raise ValueError(f"{at}: should be an object with request_id, name and value")  # noqa: TRY004 - of the file
        try:
            yield _read(values)
        except ValueError as error:
            raise ValueError(f"{at}: {error}") from None


def _read(values: dict[str, Any]) -> Outcome:
    if unknown := sorted(values.keys() - _KEYS):
        raise ValueError(f"unknown key {unknown[0]!r}; there are: {', '.join(sorted(_KEYS))}")
    if missing := sorted({"request_id", "name", "value"} - values.keys()):
        raise ValueError(f"needs the key {missing[0]!r}")
    row, time = values.get("row", 0), values.get("time")
    if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < 1 << 32:
        raise ValueError("row should be a whole number from 0")
    return Outcome(str(values["request_id"]), str(values["name"]), _value(values["value"]), row, _time(time))


def _time(text: object) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError(f"time {text!r} is not ISO 8601, such as 2026-11-26T12:00:00+00:00") from None
    if found.tzinfo is None:
        raise ValueError(f"time {text!r} needs a time zone, such as +00:00")
    return found


def _value(value: object) -> bool | float:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return float(value)
    raise ValueError("value should be true, false or a number")
