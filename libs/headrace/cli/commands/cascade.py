"""`headrace cascade tune`: the threshold of a cascade, chosen by labelled rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import Progress
from rich.table import Table

from headrace.cli import json_rows
from headrace.cli.console import DEFAULT_HOME, AsJson, Home, err, fail, out, place
from headrace.cli.installation.layout import Layout
from headrace.cli.replay import cascade_curve as curves
from headrace.cli.replay.candidate import ReplayError
from headrace.cli.replay.cascade_curve import Labelled, Point, cpu_saved
from headrace.cli.replay.labelled_rows import BATCH, measured
from headrace.hop.config import ConfigError
from headrace.pipeline import CascadeStage, DocumentError, Pipeline, load
from headrace.pipeline.document.files import read

cascade = typer.Typer(
    help="Cascades: a light model that answers, a heavy one for the unsure.", no_args_is_help=True
)
_SHOWN = 12
_MAX_ROWS = 10_000_000


@cascade.command()
def tune(
    pipeline: Annotated[str, typer.Argument(help="Its name, or the path of a document.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Labelled rows, a JSON object a line: inputs, recorded features, label.", dir_okay=False
        ),
    ],
    loss_budget: Annotated[
        str,
        typer.Option(
            help="Most that the cascade may lose to the heavy model alone: mean cost of a row, or PERCENT% of the gap."
        ),
    ],
    stage: Annotated[str, typer.Option(help="The cascade; may be left out if there is one.")] = "",
    label: Annotated[str, typer.Option(help="Key of the label: true, false or a class number.")] = "label",
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="That the budget holds.")] = 0.95,
    as_json: AsJson = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Choose a cascade's threshold: the least one that provably costs no more quality than the budget.

    Runs both models on every row, in this process. Changes nothing: it prints how to set what it chose.
    """
    layout = place(home)
    text, document = _document(layout, pipeline)
    found = _stage(document, stage)
    alpha = 1 - confidence
    labelled, points, cpu = _measured(layout, text, document, found, data, label, alpha)
    budget = _budget(loss_budget, labelled)
    best = curves.chosen(points, budget)
    if as_json:
        print(json.dumps(_plain(labelled, points, best, budget, cpu)))
    else:
        _print(labelled, points, best, budget, cpu)
    if best is None:
        needed = curves.rows_needed(budget, labelled, alpha)
        hint = (
            f"; it needs at least {needed} rows, there are {len(labelled)}" if needed > len(labelled) else ""
        )
        fail(
            f"no threshold is proven to lose at most {budget:.5f}{hint}. Allow more, or bring more labelled rows"
        )
    if not as_json:
        set_it = f"headrace release deploy {document.name} --set {found.name}.threshold={best.threshold:.6g}"
        out.print(f"set it: [bold]{set_it}[/]")


def _measured(
    layout: Layout, text: str, document: Pipeline, found: CascadeStage, data: Path, label: str, alpha: float
) -> tuple[Labelled, Sequence[Point], tuple[float, float]]:
    """What both models say of the rows, the losses of each threshold, and the CPU time (µs a row) of the light and the heavy
    model."""
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("reading rows", total=3)
        rows, labels = _read(data, label)
        progress.update(task, advance=1, description="running both models")
        try:
            labelled, cpu = measured(layout, text, document, found, rows, labels)
        except (ReplayError, ConfigError) as error:
            fail(str(error))
        progress.update(task, advance=1, description="bounding losses")
        points = curves.curve(labelled, curves.grid(labelled.margins, found.unsure.decision), alpha)
    return labelled, points, cpu


def _document(layout: Layout, name: str) -> tuple[str, Pipeline]:
    path = Path(name)
    if not path.is_file():
        path = layout.documents / name / "pipeline.yaml"
    if not path.is_file():
        fail(f"there is no pipeline {name!r} in {layout.documents}, and no such file")
    try:
        return read(path), load(path)
    except DocumentError as error:
        fail(str(error))


def _stage(document: Pipeline, name: str) -> CascadeStage:
    found = [s for s in document.stages if isinstance(s, CascadeStage)]
    if not found:
        fail(f"pipeline {document.name} has no cascade stage")
    names = ", ".join(s.name for s in found)
    if not name and len(found) > 1:
        fail(f"pipeline {document.name} has several cascades, choose one by --stage: {names}")
    stage = next((s for s in found if name in ("", s.name)), None)
    if stage is None:
        fail(f"pipeline {document.name} has no cascade {name!r}; it has: {names}")
    return stage


def _read(path: Path, label: str) -> tuple[list[dict[str, Any]], NDArray[np.int64]]:
    rows: list[dict[str, Any]] = []
    labels: list[int] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, row in json_rows.read(lines):
                if len(rows) >= _MAX_ROWS:
                    raise ValueError(f"more than {_MAX_ROWS} rows")
                value = row.get(label)
                if not isinstance(value, bool | int):
                    wanted = "should be true, false or a class number"
                    raise ValueError(f"line {number}: the label {label!r} {wanted}, is {value!r:.40}")  # noqa: TRY004 - a fault of the file
                labels.append(int(value))
                rows.append(row)
    except ValueError as error:
        fail(f"{path}: {error}")
    if not rows:
        fail(f"{path}: no rows")
    return rows, np.array(labels, np.int64)


def _budget(text: str, rows: Labelled) -> float:
    """The budget as mean cost of a row."""
    share = text.endswith("%")
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 < value < 1 and not (share and 0 < value <= 100):
        fail(f"--loss-budget: {text!r} is neither a mean cost between 0 and 1 nor a percentage such as 10%")
    if not share:
        return value
    if rows.gap <= 0:
        fail(
            "the heavy model is not better than the light one on these rows, so there is no gap to take a share of"
        )
    return value / 100 * rows.gap


def _plain(
    rows: Labelled, points: Sequence[Point], best: Point | None, budget: float, cpu: Sequence[float]
) -> dict[str, object]:
    def plain(point: Point) -> dict[str, object]:
        return {**asdict(point), "cpu_saved": cpu_saved(point, cpu)}

    return {
        "rows": len(rows),
        "light_loss": float(rows.light.mean()),
        "heavy_loss": float(rows.heavy.mean()),
        "gap": rows.gap,
        "budget": budget,
        "cpu_us": {"light": cpu[0], "heavy": cpu[1]},
        "curve": [plain(p) for p in points],
        "chosen": None if best is None else plain(best),
    }


def _print(
    rows: Labelled, points: Sequence[Point], best: Point | None, budget: float, cpu: Sequence[float]
) -> None:
    out.print(
        f"{len(rows)} rows; loss of a row: light {rows.light.mean():.5f}, heavy {rows.heavy.mean():.5f}, gap {rows.gap:.5f}; "
        f"CPU of a row: light {cpu[0]:.2f} µs, heavy {cpu[1]:.2f} µs (batches of {BATCH})"
    )
    table = Table("threshold", "to heavy", "CPU saved", "loss", "lost to heavy (95 %)", "lost at most", "")
    for point in _sample(points, best):
        low, high = point.lost_interval
        table.add_row(
            f"{point.threshold:.4g}",
            f"{point.heavy_share:.1%}",
            f"{cpu_saved(point, cpu):.1%}",
            f"{point.loss:.5f}",
            f"{point.lost:+.5f} ({low:+.5f} to {high:+.5f})",
            f"{point.lost_bound:+.5f}",
            "chosen" if point is best else "too much" if point.lost_bound > budget else "",
            style="green" if point is best else None,
        )
    out.print(table)
    out.print(f"budget: a loss of at most {budget:.5f} above the heavy model alone")


def _sample(points: Sequence[Point], best: Point | None) -> list[Point]:
    """Points at about equal steps of the share that goes to the heavy model, and the chosen one."""
    found: list[Point] = []
    for point in points:
        if point is best or not found or point.heavy_share - found[-1].heavy_share >= 1 / _SHOWN:
            found.append(point)
    return found
