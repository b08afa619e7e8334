"""The baseline document: what a model's columns looked like in its training data. It is a file of the model's version."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
    model_validator,
)

from headrace.drift.calibration import Calibration
from headrace.drift.column_figures import CategoryColumn, Column, NumberColumn
from headrace.repository import RepositoryError

FORMAT: Literal["headrace.baseline/1"] = "headrace.baseline/1"
# The file in the version's folder.
FILE = "baseline.json"
MAX_BYTES = 8 << 20
MOST_COLUMNS = 1024
MOST_CATEGORIES = 256
MOST_EDGES = 64

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
# `input`, `output`: elements of the model's tensors; `pipeline`: columns of the pipeline that the model itself does not get.
Role: TypeAlias = Literal["input", "output", "pipeline"]


class BaselineError(RepositoryError):
    """A baseline can't be used. `column`: the column that is wrong; empty: the document as a whole."""

    def __init__(self, column: str, problem: str, remedy: str, model: str = "", version: str = "") -> None:
        where = f"baseline, column {column!r}" if column else "baseline"
        super().__init__(model, version, f"{where}: {problem}", remedy)
        self.column = column
        self._why = problem

    def of(self, model: str, version: str) -> BaselineError:
        """The same, of a model's version."""
        return BaselineError(self.column, self._why, self.remedy, model, version)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _AnyBaseline(_Part):
    """What both kinds have. `watched` False: it is counted but not judged, as a time of day is in a window of a minute."""

    role: Role = "input"
    watched: bool = True
    rows: NonNegativeInt
    nulls: NonNegativeInt = 0


class NumberBaseline(_AnyBaseline):
    """A column of numbers. `counts`: rows by bin, one more than `edges`; `low`, `high`: of its finite values; absent without
    any."""

    kind: Literal["number"] = "number"
    non_finite: NonNegativeInt = 0
    edges: tuple[FiniteFloat, ...] = Field(max_length=MOST_EDGES)
    counts: tuple[NonNegativeInt, ...]
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(
                f"{len(self.counts)} counts for {len(self.edges)} edges; one more than edges is needed"
            )
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError("the edges do not rise")
        if sum(self.counts) + self.nulls + self.non_finite != self.rows:
            raise ValueError("counts, nulls and non_finite do not add up to rows")
        return self

    def column(self, name: str) -> NumberColumn:
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return NumberColumn(name, self.edges, low, high)


class CategoryBaseline(_AnyBaseline):
    """A column of texts. `categories`: text → rows; `unseen`: rows with any other text."""

    kind: Literal["category"] = "category"
    categories: Mapping[str, NonNegativeInt] = Field(max_length=MOST_CATEGORIES)
    unseen: NonNegativeInt = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sum(self.categories.values()) + self.unseen + self.nulls != self.rows:
            raise ValueError("categories, unseen and nulls do not add up to rows")
        return self

    def column(self, name: str) -> CategoryColumn:
        return CategoryColumn(name, tuple(self.categories))


ColumnBaseline: TypeAlias = Annotated[NumberBaseline | CategoryBaseline, Field(discriminator="kind")]


class Baseline(_Part):
    """`tensors`: a tensor of the model → the columns that are its elements, in their order. A tensor that is not named there
    stands for the column of its name, or for NAME[0], NAME[1] …"""

    format: Literal["headrace.baseline/1"] = FORMAT
    rows: NonNegativeInt
    # The data, in words.
    made_from: str = Field(default="", max_length=2000)
    tensors: Mapping[Name, tuple[Name, ...]] = Field(default_factory=dict)
    columns: Mapping[Name, ColumnBaseline] = Field(min_length=1, max_length=MOST_COLUMNS)
    # Absent: it is not known whether the model's probabilities are calibrated.
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _calibrated(self) -> Self:
        named = self.calibration.probability if self.calibration else None
        if named is not None and not isinstance(self.columns.get(named), NumberBaseline):
            raise ValueError(f"calibration.probability: {named!r} is no column of numbers here")
        return self

    @cached_property
    def counted(self) -> Mapping[str, Column]:
        """What is counted of rows to be compared with this."""
        return {name: about.column(name) for name, about in self.columns.items()}

    def to_bytes(self) -> bytes:
        """The document, sorted by key so that the same data make the same bytes."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        values["format"] = self.format
        for name, about in self.columns.items():
            values["columns"][name]["kind"] = about.kind
        return json.dumps(values, indent=1, sort_keys=True).encode() + b"\n"


def parse(content: bytes) -> Baseline:
    """Raises BaselineError, which names the column and the key."""
    if len(content) > MAX_BYTES:
        raise BaselineError("", f"it has more than {MAX_BYTES >> 20} MiB", "name fewer columns")
    try:
        found = Baseline.model_validate(json.loads(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _wrong(first["loc"], first["msg"]) from None
    except (ValueError, RecursionError) as error:
        raise BaselineError("", f"can't be read ({error})", _REMEDY) from None
    return found


_REMEDY = "make it anew: headrace models baseline"


def _wrong(where: Sequence[Any], said: str) -> BaselineError:
    place = [str(part) for part in where]
    # columns, NAME, kind, key …
    column = place[1] if place[0:1] == ["columns"] and len(place) > 1 else ""
    keys = [p for p in (place[2:] if column else place) if p not in ("number", "category")]
    text = said.removeprefix("Value error, ")
    return BaselineError(column, f"{'.'.join(keys)}: {text}" if keys else text, _REMEDY)
