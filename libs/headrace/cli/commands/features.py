"""`headrace features`: push rows into the online store, fill it from the tables, compare the two."""

from __future__ import annotations

import contextlib
import io
import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from headrace.cli import json_rows
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place
from headrace.cli.tables import headed_table
from headrace.pipeline.document.durations import duration_text

if TYPE_CHECKING:
    from feast import FeatureStore

    from headrace.featurestore.consistency import ViewReport

features = typer.Typer(help="The feature store.", no_args_is_help=True)
# So many rows are written at once.
_ROWS = 1000


@features.command()
def push(
    name: Annotated[str, typer.Argument(help="A feature view, or a push source.")],
    path: Annotated[
        Path, typer.Argument(help="Rows as JSON, one object a line; - for standard input.", allow_dash=True)
    ],
    home: Home = DEFAULT_HOME,
) -> None:
    """Write rows into the online store; rows older than what it has are left out."""
    from headrace.featurestore import writer

    store = _open(home)
    written = older = 0
    try:
        for rows in _rows(path):
            with _quiet():
                pushed = writer.push(store, name, rows)
            written, older = written + pushed.written, older + pushed.older
    except Exception as error:  # noqa: BLE001 - the file's and each kind of store's own; all end the command with their text
        fail(f"{error} ({written} rows were written)")
    out.print(
        f"{written} rows written into {name}"
        + (f", {older} left out: there were newer ones" if older else "")
    )


@features.command()
def materialize(
    views: Annotated[list[str] | None, typer.Argument(help="Feature views; all if none is named.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Up to this moment (UTC); now if absent.")] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Fill the online store from the offline tables, view by view."""
    from headrace.featurestore import writer

    store = _open(home)
    moment = until.replace(tzinfo=UTC) if until else datetime.now(UTC)
    shown = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=out)
    with shown:
        task = shown.add_task("reading the registry", total=None)
        try:
            with _quiet():
                writer.materialize(
                    store, moment, views or [],
                    lambda view, done, total: shown.update(task, description=view or "done", completed=done, total=total),
                )  # fmt: skip
        except writer.WriteError as error:
            fail(str(error))
    out.print(f"the online store is at {moment:%Y-%m-%d %H:%M:%S} UTC")


@features.command()
def check(
    sample: Annotated[int, typer.Option(help="Entities compared per view.", min=1)] = 200,
    home: Home = DEFAULT_HOME,
) -> None:
    """Compare online values with the offline tables on a sample, and show their ages; exit code 1 if they differ."""
    from headrace.featurestore import consistency

    store = _open(home)
    try:
        with _quiet():
            reports = list(consistency.check(store, sample, datetime.now(UTC)))
    except consistency.CheckError as error:
        fail(str(error))
    out.print(_table(reports))
    if not all(report.good for report in reports):
        fail("the online store is not what the tables say; headrace features materialize brings it there")


def _open(home: Path) -> FeatureStore:
    from headrace.featurestore import writer

    layout = place(home)
    if not (layout.feast / "feature_store.yaml").exists():
        fail(f"{layout.feast} is no feature repository; headrace up prepares one")
    try:
        return writer.open_store(layout.feast)
    except writer.WriteError as error:
        fail(str(error))


def _rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Batches of rows. Raises OSError, and ValueError with the line's number."""
    with sys.stdin if str(path) == "-" else path.open() as lines:
        found = (row for _, row in json_rows.read(lines))
        while rows := list(islice(found, _ROWS)):
            yield rows


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Feast prints as it goes."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _table(reports: list[ViewReport]) -> Table:
    figures = ("sampled", "absent", "behind", "cells", "wrong", "age p50", "age max", "past its TTL")
    table = headed_table("view", *figures, numbers=True)
    for r in reports:
        numbers = [r.sampled, r.absent, r.behind, r.cells, r.wrong]
        table.add_row(r.view, *map(str, numbers), _age(r.age_p50_s), _age(r.age_max_s), str(r.expired))
    return table


def _age(seconds: float) -> str:
    return "-" if math.isnan(seconds) else duration_text(round(seconds) * 1_000_000)
