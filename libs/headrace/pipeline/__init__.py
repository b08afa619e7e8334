"""The pipeline document: one YAML file parsed into an immutable `Pipeline`, its plan, its input checks.

`load` and `load_folder` read documents; `plan` orders the stages; `check` compares with models and features offline;
`validate_inputs`, `batch_from_rows`, `rounded` and `rows_from_batch` serve the door.
"""

from headrace.pipeline.checks.offline import check
from headrace.pipeline.document.cache_rule import CacheRule
from headrace.pipeline.document.durations import duration_text
from headrace.pipeline.document.explanations import default_output, is_explainable
from headrace.pipeline.document.files import load, load_folder
from headrace.pipeline.document.parse import content_hash, parse
from headrace.pipeline.models import (
    MODELS_USED,
    Decision,
    IndexedModel,
    ModelState,
    ModelUse,
    models_of,
    read_index,
    read_model_uses,
    write_index,
    write_model_uses,
)
from headrace.pipeline.problems import DocumentError, Problem
from headrace.pipeline.requests.rows import batch_from_rows, rounded, rounds, rows_from_batch
from headrace.pipeline.requests.validation import null_column, validate_inputs
from headrace.pipeline.spec import (
    REGULATED,
    ExplanationRule,
    InputField,
    LatencyObjective,
    Objectives,
    OutputField,
    Pipeline,
)
from headrace.pipeline.stage_order import (
    Cut,
    Plan,
    PlannedStage,
    Towards,
    cut,
    explainable_columns,
    plan,
    towards,
)
from headrace.pipeline.stages.cascade import CascadeStage, Unsure
from headrace.pipeline.stages.ensemble import EnsembleStage, Member
from headrace.pipeline.stages.features import FeaturesStage, Freshness, ViewSpec
from headrace.pipeline.stages.kind import (
    ModelSignature,
    SettingError,
    Stage,
    StageKind,
    ViewSignature,
)
from headrace.pipeline.stages.model import ModelStage
from headrace.pipeline.stages.registry import STAGE_KINDS, kind_of
from headrace.pipeline.stages.steps import StepsStage
from headrace.pipeline.types import ColumnType

__all__ = [
    "MODELS_USED",
    "REGULATED",
    "STAGE_KINDS",
    "CacheRule",
    "CascadeStage",
    "ColumnType",
    "Cut",
    "Decision",
    "DocumentError",
    "EnsembleStage",
    "ExplanationRule",
    "FeaturesStage",
    "Freshness",
    "IndexedModel",
    "InputField",
    "LatencyObjective",
    "Member",
    "ModelSignature",
    "ModelStage",
    "ModelState",
    "ModelUse",
    "Objectives",
    "OutputField",
    "Pipeline",
    "Plan",
    "PlannedStage",
    "Problem",
    "SettingError",
    "Stage",
    "StageKind",
    "StepsStage",
    "Towards",
    "Unsure",
    "ViewSignature",
    "ViewSpec",
    "batch_from_rows",
    "check",
    "content_hash",
    "cut",
    "default_output",
    "duration_text",
    "explainable_columns",
    "is_explainable",
    "kind_of",
    "load",
    "load_folder",
    "models_of",
    "null_column",
    "parse",
    "plan",
    "read_index",
    "read_model_uses",
    "rounded",
    "rounds",
    "rows_from_batch",
    "towards",
    "validate_inputs",
    "write_index",
    "write_model_uses",
]
