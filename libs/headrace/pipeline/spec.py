"""What a pipeline document says, as immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from headrace.columns import DType
from headrace.pipeline.problems import Source
from headrace.pipeline.types import ColumnType, Scalar

OnMissing: TypeAlias = Literal["default", "refuse"]


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
class Freshness:
    """How old the values of a view may be (microseconds): up to `max_age_us` they are present, and for `stale_us` more
    they are used as stale ones. `otherwise`: what to do with a row whose values are older."""

    max_age_us: int
    stale_us: int
    otherwise: OnMissing


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """A feature view: its features (scalars) and what to do with a row for which it has no present values.

    `freshness` None: values may be as old as the view's time to live.
    """

    features: Mapping[str, DType]
    on_missing: OnMissing = "default"
    freshness: Freshness | None = None

    @property
    def too_old(self) -> OnMissing:
        """What to do with a row whose values are too old."""
        return self.freshness.otherwise if self.freshness else self.on_missing

    @property
    def takes_stale(self) -> bool:
        """Whether stale values are good enough for a view that demands present ones."""
        return self.freshness is not None and self.freshness.stale_us > 0


@dataclass(frozen=True, slots=True)
class FeaturesStage:
    """Reads the features of a Feast feature service for the entities of each row.

    `request`: columns that on-demand feature views are worked out from, besides stored features.
    """

    name: str
    feature_service: str
    entities: tuple[str, ...]
    views: Mapping[str, ViewSpec]
    request: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepsStage:
    """Runs steps over columns. `spec`: what the service is sent as `spec_json`, known by `spec_sha256`."""

    kind: Literal["preprocessing", "postprocessing"]
    name: str
    spec: Mapping[str, object]
    spec_json: bytes
    spec_sha256: str
    reads: tuple[str, ...]
    # Every column that the steps make; only `outputs` leave the service.
    writes: tuple[str, ...]
    outputs: Mapping[str, ColumnType]


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Where an output of a model goes. `type` None: whatever the model's signature says."""

    column: str
    type: ColumnType | None = None


@dataclass(frozen=True, slots=True)
class ModelStage:
    """Runs a model. `version` "": the newest loaded. `inputs`: model input → column."""

    name: str
    model: str
    version: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, ModelOutput]


Stage: TypeAlias = FeaturesStage | StepsStage | ModelStage


@dataclass(frozen=True, slots=True)
class OutputField:
    """One column of the answer. `digits`: after the point, to which its numbers are rounded; None: they are not."""

    name: str
    type: ColumnType
    digits: int | None = None

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.type.row_shape


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
    source: Source = field(default=Source("(document)"), repr=False)


def stage_kind(stage: Stage) -> str:
    """The key that begins the stage in the document."""
    if isinstance(stage, FeaturesStage):
        return "features"
    return stage.kind if isinstance(stage, StepsStage) else "model"
