"""`headrace pipeline check`: is a document right, and does it fit the models and features there are?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace import slo
from headrace.cli.console import DEFAULT_HOME, Home, err, fail, out, place
from headrace.cli.diagnosis import inventory, released_versions
from headrace.cli.installation.control_place import NotRunningError
from headrace.cli.installation.layout import Layout
from headrace.hop.config import ConfigError
from headrace.pipeline import DocumentError, Objectives, Pipeline, Problem, duration_text, load, load_folder
from headrace.pipeline import check as check_pipeline
from headrace.repository import RepositoryError

pipeline = typer.Typer(help="Pipeline documents.", no_args_is_help=True)


@pipeline.command()
def check(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="A document or a folder of pipelines; if absent, those of the home or the checkout."
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Check documents offline. Prints each problem as FILE:LINE: KEY: what is wrong; exit code 1 if there is any."""
    layout = place(home)
    try:
        documents = _load(path or layout.documents)
        problems, skipped = _problems(documents, layout)
    except DocumentError as error:
        problems, skipped, documents = list(error.problems), [], {}
    except (RepositoryError, ConfigError) as error:
        fail(str(error))
    for problem in problems:
        print(problem)
    if problems:
        err.print(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", style="bold red")
        raise typer.Exit(1)
    for name, found in documents.items():
        out.print(f"[green]ok[/] {name} version {found.version}, revision {found.revision[:12]}…")
        if found.objectives is not None:
            out.print(f"   objectives: {objectives_text(found.objectives)}")
    if skipped:
        err.print(
            f"not compared with {' and '.join(skipped)}: not there, or not running, in {layout.home}",
            style="yellow",
        )


def objectives_text(objectives: Objectives) -> str:
    """What is promised, in words."""
    promised = []
    if objectives.availability is not None:
        promised.append(f"{objectives.availability * 100:.6g} % answered")
    if objectives.latency is not None:
        promised.append(f"{objectives.latency.p * 100:.6g} % within {objectives.latency.ms} ms")
    return f"{', '.join(promised)}, over {duration_text(objectives.window_us)}"


def _load(path: Path) -> dict[str, Pipeline]:
    if path.is_dir():
        if (path / "pipeline.yaml").exists():
            return _load(path / "pipeline.yaml")
        found = load_folder(path)
        if not found:
            fail(f"{path} holds no */pipeline.yaml")
        return found
    one = load(path)
    return {one.name: one}


def _problems(documents: dict[str, Pipeline], layout: Layout) -> tuple[list[Problem], list[str]]:
    models, features = inventory.models(layout), inventory.features(layout)
    skipped = [name for name, given in (("models", models), ("features", features)) if given is None]
    found = [
        problem for document in documents.values() for problem in check_pipeline(document, models, features)
    ]
    found += [problem for document in documents.values() for problem in slo.problems(document)]
    if models is not None:
        try:
            found += released_versions.unknown(layout, documents.values())
        except NotRunningError:
            skipped.append("labels of releases")
    return found, skipped
