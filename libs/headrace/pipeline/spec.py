"""What a pipeline document says, as immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.columns import DType
from headrace.pipeline.document.cache_rule import CacheRule
from headrace.pipeline.guards import GuardAction
from headrace.pipeline.problems import Source
from headrace.pipeline.stages.kind import Stage
from headrace.pipeline.types import ColumnType, Scalar


@dataclass(frozen=True, slots=True)
class InputField:
    """One input column. `range`: both ends allowed, None = open. `default`: what a row without a value gets
    (None: a null). `choices` and `default` of string fields are UTF-8 bytes."""

    name: str
    dtype: DType
    row_shape: tuple[int, ...] = ()
    text: bool = False
    required: bool = True
    range: tuple[float | None, float | None] | None = None
    choices: tuple[Scalar, ...] | None = None
    max_bytes: int | None = None
    # Whether NaN and infinities may come in.
    allow_nan: bool = False
    default: Scalar | None = None
    # Personal data: never in logs, redacted in events.
    pii: bool = False
    description: str = ""

    @property
    def type(self) -> ColumnType:
        return ColumnType(self.dtype, self.row_shape, self.text)


@dataclass(frozen=True, slots=True)
class OutputField:
    """One column of the reply. `digits`: after the point, to which its numbers are rounded; None: not rounded. `range`: in which
    each number should lie; both ends allowed, None = open."""

    name: str
    type: ColumnType
    digits: int | None = None
    range: tuple[float | None, float | None] | None = None

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.type.row_shape


@dataclass(frozen=True, slots=True)
class LatencyObjective:
    """The share `p` of the requests is answered within `ms` milliseconds."""

    p: float
    ms: int


@dataclass(frozen=True, slots=True)
class Objectives:
    """What is promised of a pipeline's answers, over the last `window_us` microseconds; None: nothing is promised of that.

    `availability`: share of the requests that do not fail by a fault of ours.
    """

    availability: float | None
    latency: LatencyObjective | None
    window_us: int

    @property
    def error_budget(self) -> float | None:
        """Share of the requests that may fail."""
        return None if self.availability is None else 1 - self.availability


@dataclass(frozen=True, slots=True)
class ExplanationRule:
    """How predictions are explained. `coverage`: the share of stored ones that must be. `output`: what columns contribute to.
    `base`: values of the base row by column, where the document says them."""

    coverage: float
    output: str
    base: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """One revision of a pipeline. Compared by identity; `revision` (SHA-256 of the document's canonical JSON,
    hexadecimal) tells whether two say the same."""

    name: str
    version: int
    revision: str
    description: str
    deadline_ms: int
    inputs: tuple[InputField, ...]
    stages: tuple[Stage, ...]
    outputs: tuple[OutputField, ...]
    # What is promised of its answers; None: nothing.
    objectives: Objectives | None = None
    source: Source = field(default=Source("(document)"), repr=False)
    # Whether and how long answers are kept; None: they are not.
    cache: CacheRule | None = None
    # Whether the event of each prediction must be on the disk before the answer leaves.
    regulated: bool = False
    # How predictions are explained; None: only on request.
    explanations: ExplanationRule | None = None
    # Inputs each of whose `choices` is a segment that a new version is judged by.
    segments: tuple[str, ...] = ()
    # Guard → what it does in rollouts of this document that do not say it themselves.
    guards: Mapping[str, GuardAction] = field(default_factory=dict)


REGULATED = "@regulated"
"""Annotation of the rows of a tenant whose predictions are regulated, whatever the pipeline."""
