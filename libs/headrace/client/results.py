"""Return types of the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headrace.client.errors import HeadraceError, error_class
from headrace.hop.errors import Code

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FeatureAge:
    """Origin and age of the values of one feature view.

    `source`: `present`, `not_found`, `outside_max_age`, `stale` or `default`. `age_ms`: None without a value.
    """

    source: str
    age_ms: int | None


@dataclass(frozen=True, slots=True)
class RowFailure:
    """Why one row failed."""

    code: Code
    reason: str
    message: str
    metadata: Mapping[str, str]

    def error(self, request_id: str = "") -> HeadraceError:
        """This failure as an exception."""
        kind = error_class(self.code)
        return kind(self.code, self.reason, self.message, metadata=self.metadata, request_id=request_id)


@dataclass(frozen=True, slots=True)
class Decision:
    """The arm of a release that answered rows, and why.

    `version`, `revision`: number and content hash of its pipeline document. `release`: number of the release; 0: there is
    none. `rule`: name of the rule that chose the arm; "": the weights did. `sticky`: the row's key decided, so other requests
    with this key get the same arm while the weights stay.
    """

    arm: str
    version: int
    revision: str
    release: int
    rule: str
    sticky: bool
    models: tuple[ModelUse, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one row. `outputs`: numbers are float, absent values None. `error`: None on success."""

    outputs: Mapping[str, Any]
    # Names of the fallbacks that were used; empty if none was needed.
    fallbacks: tuple[str, ...]
    # By feature view.
    feature_ages: Mapping[str, FeatureAge]
    error: RowFailure | None
    # The arm of the release that answered, and why; None from a server that does not tell.
    decision: Decision | None = None
    # Age in milliseconds of an answer out of the response cache; None: it was computed for this row.
    cached_age_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model that was used. `sha256`: of its artifact, hexadecimal. `backend`: what ran it, for example `onnxruntime`.

    `standby`: this backend was a replacement for a failed one; `cold_start`: the rows waited for the model to load.
    """

    model: str
    version: str
    sha256: str
    stage: str
    backend: str = ""
    standby: bool = False
    cold_start: bool = False


@dataclass(frozen=True, slots=True)
class PredictResult:
    """The answer to rows, in their order. `version`, `revision`: number and content hash of the pipeline."""

    request_id: str
    pipeline: str
    version: int
    revision: str
    models: tuple[ModelUse, ...]
    predictions: tuple[Prediction, ...]
    trace_id: str
    # The arms that answered, once for each reason; each prediction has its own.
    decisions: tuple[Decision, ...] = ()

    def raise_for_errors(self) -> None:
        """Raises the HeadraceError of the first row that failed, if one did."""
        for prediction in self.predictions:
            if prediction.error is not None:
                raise prediction.error.error(self.request_id)


@dataclass(frozen=True, slots=True)
class ColumnsResult:
    """The answer to columns.

    `columns`: output name → array of shape (rows, …); text as str objects; a masked array where values are
    absent. `errors`: row position → why it failed; the columns' values in such a row have no meaning.
    """

    request_id: str
    pipeline: str
    version: int
    revision: str
    models: tuple[ModelUse, ...]
    columns: Mapping[str, NDArray[np.generic]]
    errors: Mapping[int, RowFailure]
    trace_id: str
    # The arms that answered; if there are several, `columns["@decision"]` has the index of each row.
    decisions: tuple[Decision, ...] = ()

    def raise_for_errors(self) -> None:
        """Raises the HeadraceError of the first row that failed, if one did."""
        for row in sorted(self.errors):
            raise self.errors[row].error(self.request_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became known of one prediction. `request_id`: of its PredictResult; `row`: its position in the request.

    `name`: that of an output, or any other. `value`: a truth value or a finite number. `time`: when it was so, with a time
    zone; None: now.
    """

    request_id: str
    name: str
    value: bool | float
    row: int = 0
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """`stored`: outcomes that are stored now; `unknown`: those of them whose prediction has no record, at least not yet."""

    stored: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Field:
    """One input or output of a pipeline. `data_type`: `FLOAT32`, `BYTES` …; `row_shape`: dimensions of a row."""

    name: str
    data_type: str
    row_shape: tuple[int, ...]
    optional: bool
    description: str


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline that the key may use."""

    name: str
    version: int
    revision: str
    description: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
