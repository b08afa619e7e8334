"""Makes a baseline from training data: columns in memory, or a file of Parquet or CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.drift.baseline import (
    MOST_CATEGORIES,
    Baseline,
    BaselineError,
    CategoryBaseline,
    NumberBaseline,
    Role,
)
from headrace.drift.calibration import Calibration, calibration_of
from headrace.drift.column_figures import CategoryColumn, CategoryFigures, NumberColumn, NumberFigures, count
from headrace.drift.signature import element_names
from headrace.drift.values import Values, numbers, text_of, texts

# As many bins as the noise floor of PSI was chosen for (monitoring.md, section 3).
_BINS = 20
SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class Choices:
    """What the data alone do not say.

    `tensors`: tensor → columns of its elements; `outputs`: columns that are outputs, `pipeline`: that the model does not get;
    `categories`: columns of numbers that are names; `unwatched`: counted but not judged; `calibration`: the column with a
    probability, and the one that says (0 or 1) whether it came true, which is no column of the model and is left out.
    """

    tensors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outputs: Collection[str] = ()
    pipeline: Collection[str] = ()
    categories: Collection[str] = ()
    unwatched: Collection[str] = ()
    calibration: tuple[str, str] | None = None
    made_from: str = ""


def baseline_of(data: Mapping[str, Values], choices: Choices) -> Baseline:
    """The baseline of columns of the same length; an array of two dimensions is the columns NAME[0], NAME[1] …

    Raises BaselineError: no rows, columns of different lengths, a choice that names no column.
    """
    columns = _flat(data, choices.tensors)
    rows = len(next(iter(columns.values()), ()))
    for name, values in columns.items():
        if len(values) != rows:
            raise BaselineError(
                name, f"it has {len(values)} rows, others have {rows}", "give all columns the same rows"
            )
    if not rows:
        raise BaselineError("", "the data have no rows", "give training data")
    _check_named(columns, choices)
    calibration = None
    if choices.calibration is not None:
        probability, truth = choices.calibration
        calibration = _calibration(probability, columns[probability], truth, columns.pop(truth))
    made = {name: _described(name, values, rows, choices) for name, values in columns.items()}
    return Baseline(
        rows=rows,
        made_from=choices.made_from,
        tensors=dict(choices.tensors),
        columns=made,
        calibration=calibration,
    )


def read(path: Path) -> dict[str, Values]:
    """The columns of a file, by its suffix. Raises BaselineError."""
    if path.suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise BaselineError(
            "", f"{path} is none of {known}", "name a file of training data, or a document (.json)"
        )
    try:
        return _arrow(path)
    except ImportError:
        raise BaselineError("", "reading data needs the package pyarrow", "install it") from None
    except OSError as error:
        raise BaselineError(
            "", f"{path} can't be read ({error.strerror or error})", "check the file"
        ) from None
    except ValueError as error:
        raise BaselineError("", f"{path} can't be read ({error})", "check the file") from None


def _arrow(path: Path) -> dict[str, Values]:
    # Large, and not in every installation that has the command line.
    from pyarrow import csv, parquet

    table = parquet.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)
    return {name: _of_arrow(table.column(name)) for name in table.column_names}


def _of_arrow(column: Any) -> Values:
    """Numbers as an array, masked where Arrow has nulls; all else as a list of texts."""
    kind = str(column.type)
    if kind in ("bool", "float", "double", "halffloat") or kind.startswith(("int", "uint")):
        nulls = np.asarray(column.is_null())
        filled = np.asarray(column.fill_null(False if kind == "bool" else 0))
        return np.ma.MaskedArray(filled, nulls) if nulls.any() else filled
    return [None if value is None else text_of(value) for value in column.to_pylist()]


def _flat(data: Mapping[str, Values], tensors: Mapping[str, Sequence[str]]) -> dict[str, Values]:
    flat: dict[str, Values] = {}
    for name, values in data.items():
        if not isinstance(values, np.ndarray) or values.ndim < 2:
            flat[name] = values
            continue
        elements = values.reshape(len(values), -1)
        names = tensors.get(name) or element_names(name, elements.shape[1])
        if len(names) != elements.shape[1]:
            problem = f"it has {elements.shape[1]} elements a row, {len(names)} columns are named for it"
            raise BaselineError(name, problem, "name one column for each element")
        flat |= {column: elements[:, i] for i, column in enumerate(names)}
    return flat


def _check_named(columns: Mapping[str, Values], choices: Choices) -> None:
    named = (choices.outputs, choices.pipeline, choices.categories, choices.unwatched)
    for names in (*named, choices.calibration or ()):
        for name in names:
            if name not in columns:
                there = ", ".join(list(columns)[:30])
                raise BaselineError(
                    name, f"the data have no such column (they have: {there})", "name one of them"
                )


def _calibration(probability: str, said: Values, truth: str, came: Values) -> Calibration:
    for name, values in ((probability, said), (truth, came)):
        if _is_text(values):
            raise BaselineError(name, "it holds texts", "name a column of probabilities, and one of 0 and 1")
    p, y = np.empty(len(said)), np.empty(len(came))
    nulls = [found for found in (numbers(said, p), numbers(came, y)) if found is not None]
    known = np.isfinite(p) & np.isfinite(y) & ~np.logical_or.reduce([np.zeros(len(p), bool), *nulls])
    if not np.isin(y[known], (0.0, 1.0)).all():
        raise BaselineError(truth, "it holds more than 0 and 1", "name what came true: 0 or 1, false or true")
    try:
        return calibration_of(probability, p[known], y[known] > 0)
    except ValueError as error:
        raise BaselineError(probability, str(error), "name a column of probabilities") from None


def _column(name: str, values: Values, named: bool) -> NumberColumn | CategoryColumn:
    if named or _is_text(values):
        counts = Counter(text_of(item) for item in texts(values) if item is not None)
        frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_CATEGORIES]
        return CategoryColumn(name, tuple(text for text, _ in frequent))
    x = np.empty(len(values))
    nulls = numbers(values, x)
    finite = x[np.isfinite(x) & ~nulls] if nulls is not None else x[np.isfinite(x)]
    if not len(finite):
        return NumberColumn(name)
    return NumberColumn(name, edges_of(finite), float(finite.min()), float(finite.max()))


def _is_text(values: Values) -> bool:
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return values.dtype.kind in "SU"
    first = next((item for item in values if item is not None), None)
    return isinstance(first, str | bytes)


def edges_of(finite: NDArray[np.float64]) -> tuple[float, ...]:
    """Edges of about twenty bins with equal shares, and of a bin of its own for each value that has more than such a share.

    Columns with at most twenty values get a bin for each. An edge in the gap above a frequent value keeps it apart from the next.
    """
    distinct, counts = np.unique(finite, return_counts=True)
    gaps = distinct[:-1] / 2 + distinct[1:] / 2
    if len(distinct) <= _BINS:
        return tuple(gaps.tolist())
    below = np.cumsum(counts)
    wanted = np.arange(1, _BINS) / _BINS * len(finite)
    # The first value at which so many rows are reached.
    places = np.searchsorted(below, wanted)
    often = np.flatnonzero(counts >= len(finite) / _BINS)
    # Gap i lies above value i.
    chosen = {int(p) - 1 for p in places} | {int(p) for p in often} | {int(p) - 1 for p in often}
    return tuple(float(gaps[i]) for i in sorted(chosen) if 0 <= i < len(gaps))


def _described(name: str, values: Values, rows: int, choices: Choices) -> NumberBaseline | CategoryBaseline:
    column = _column(name, values, name in choices.categories)
    found = count(column, values, rows)
    role: Role = "output" if name in choices.outputs else "pipeline" if name in choices.pipeline else "input"
    common: dict[str, Any] = {
        "role": role,
        "watched": name not in choices.unwatched,
        "rows": rows,
        "nulls": found.nulls,
    }
    if isinstance(column, CategoryColumn):
        assert isinstance(found, CategoryFigures), "of a column of texts"
        categories = dict(zip(column.vocabulary, found.counts, strict=True))
        return CategoryBaseline(**common, categories=categories, unseen=found.unseen)
    assert isinstance(found, NumberFigures), "of a column of numbers"
    return NumberBaseline(
        **common,
        non_finite=found.non_finite,
        edges=column.edges,
        counts=found.bins,
        low=column.low if found.values else None,
        high=column.high if found.values else None,
    )
