"""`headrace models baseline`: what columns looked like in training, so that drift can be told later; and its use by `add`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.commands.models import options
from headrace.cli.commands.models.options import RepositoryPlace, Root, refusals_told
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place
from headrace.repository import TensorSpec
from headrace.state import atomic

if TYPE_CHECKING:
    from headrace.drift import Baseline

_DOCUMENT_MIB = 8

Names = list[str] | None


def make(
    data: Annotated[Path, typer.Argument(help="Training data: .parquet or .csv; a column is a column.")],
    to: Annotated[Path, typer.Option("--out", help="Where the document is written.")] = Path("baseline.json"),
    model: Annotated[
        str,
        typer.Option(
            "--for", help="NAME or NAME:VERSION: check that it fits this model's inputs and outputs."
        ),
    ] = "",
    tensors: Annotated[
        Names, typer.Option("--tensor", help="TENSOR=A,B,C: the columns that are the tensor's elements.")
    ] = None,
    outputs: Annotated[Names, typer.Option("--output", help="A column that is an output.")] = None,
    pipeline: Annotated[
        Names, typer.Option("--pipeline", help="A column of the pipeline that the model does not get.")
    ] = None,
    categories: Annotated[
        Names, typer.Option("--category", help="A column of numbers that are names.")
    ] = None,
    unwatched: Annotated[
        Names,
        typer.Option("--unwatched", help="Counted, not judged: as a time of day, which always differs."),
    ] = None,
    calibration: Annotated[
        str,
        typer.Option(
            help="PROBABILITY=TRUTH: a column of probabilities, and one (0 or 1) that says what came true, which is left out."
        ),
    ] = "",
    made_from: Annotated[str, typer.Option(help="The data, in words.")] = "",
    home: Home = DEFAULT_HOME,
    root: Root = "",
) -> None:
    """Write the baseline of training data, for `models add --baseline`: counts, ranges, bins, categories. No row is in it."""
    from headrace.drift import Choices, baseline_of, check_fits
    from headrace.drift.training_data import read

    choices = Choices(
        tensors=dict(_tensor(text) for text in tensors or ()),
        outputs=outputs or (),
        pipeline=pipeline or (),
        categories=categories or (),
        unwatched=unwatched or (),
        calibration=_calibration(calibration) if calibration else None,
        made_from=made_from,
    )
    with refusals_told():
        made = baseline_of(read(data), choices)
        if model:
            about = _signature(RepositoryPlace(place(home), root), model)
            check_fits(made, *about)
    _write(made, to)


def _write(made: Baseline, to: Path) -> None:
    """Writes the document and says what is in it."""
    try:
        atomic.write(to, made.to_bytes())
    except OSError as error:
        fail(f"{to} can't be written ({error.strerror})")
    out.print(f"wrote {to}: {len(made.columns)} columns of {made.rows:,} rows", markup=False)
    if (found := made.calibration) is not None:
        verdict = "calibrated" if found.holds else "not calibrated: no expected accuracy will be told by it"
        out.print(
            f"{found.probability}: error {found.error:.1%} over {found.rows:,} rows, {verdict}", markup=False
        )


def published(
    file: Path,
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """What `publish` gets of a baseline's file. Raises BaselineError: it does not fit the model's inputs and outputs."""
    from headrace.drift import BaselineError, publication_of

    try:
        further, about = publication_of(_loaded(file, outputs), inputs, outputs)
    except BaselineError as error:
        raise error.of(name, "") from None
    return {"files": {**files, **further}, "baseline": about}


def _loaded(file: Path, outputs: Sequence[TensorSpec]) -> Baseline:
    """A document; or data, whose columns that are named like an output are outputs."""
    from headrace.drift import Choices, baseline_of, parse
    from headrace.drift.training_data import read

    if file.suffix == ".json":
        return parse(options.content(file, _DOCUMENT_MIB))
    data = read(file)
    names = {t.name for t in outputs}
    made = baseline_of(data, Choices())
    of_outputs = [c for c in made.columns if c.partition("[")[0] in names]
    return baseline_of(data, Choices(outputs=of_outputs)) if of_outputs else made


def _signature(at: RepositoryPlace, model: str) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
    repository = at.shown()
    about = repository.metadata(*options.resolved(repository, model))
    return about.inputs, about.outputs


def _tensor(text: str) -> tuple[str, tuple[str, ...]]:
    name, equals, columns = text.partition("=")
    if not name or not equals or not all(columns.split(",")):
        fail(f"{text!r} names no tensor and its columns; as input=age,income")
    return name, tuple(columns.split(","))


def _calibration(text: str) -> tuple[str, str]:
    probability, equals, truth = text.partition("=")
    if not (probability and equals and truth):
        fail(f"--calibration {text!r}: write PROBABILITY=TRUTH, both columns of the data")
    return probability, truth
