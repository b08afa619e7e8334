"""The pipeline document: one YAML file parsed into an immutable `Pipeline`, its plan, its input checks.

`load` and `load_folder` read documents, `Catalog` keeps them current; `plan` orders the stages; `check`
compares with models and features offline; `validate_inputs`, `batch_from_rows`, `rounded` and
`rows_from_batch` serve the door.
"""

from headrace.pipeline.catalog import Catalog, Quarantined, Reload
from headrace.pipeline.checking import ModelSignature, ViewSignature, check
from headrace.pipeline.document import load, load_folder, parse
from headrace.pipeline.durations import duration_text
from headrace.pipeline.keeping import Kept
from headrace.pipeline.models import (
    Decision,
    IndexedModel,
    ModelState,
    ModelUse,
    read_index,
    read_model_uses,
    write_index,
    write_model_uses,
)
from headrace.pipeline.planning import Plan, PlannedStage, plan
from headrace.pipeline.problems import DocumentError, Problem
from headrace.pipeline.rounding import rounded, rounds
from headrace.pipeline.rows import batch_from_rows, rows_from_batch
from headrace.pipeline.spec import (
    FeaturesStage,
    Freshness,
    InputField,
    ModelOutput,
    ModelStage,
    OutputField,
    Pipeline,
    Stage,
    StepsStage,
    ViewSpec,
    stage_kind,
)
from headrace.pipeline.types import ColumnType
from headrace.pipeline.validation import null_column, validate_inputs

__all__ = [
    "Catalog",
    "ColumnType",
    "Decision",
    "DocumentError",
    "FeaturesStage",
    "Freshness",
    "IndexedModel",
    "InputField",
    "Kept",
    "ModelOutput",
    "ModelSignature",
    "ModelStage",
    "ModelState",
    "ModelUse",
    "OutputField",
    "Pipeline",
    "Plan",
    "PlannedStage",
    "Problem",
    "Quarantined",
    "Reload",
    "Stage",
    "StepsStage",
    "ViewSignature",
    "ViewSpec",
    "batch_from_rows",
    "check",
    "duration_text",
    "load",
    "load_folder",
    "null_column",
    "parse",
    "plan",
    "read_index",
    "read_model_uses",
    "rounded",
    "rounds",
    "rows_from_batch",
    "stage_kind",
    "validate_inputs",
    "write_index",
    "write_model_uses",
]
