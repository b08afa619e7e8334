"""The SDK for app backends: predictions over gRPC, with deadlines, retries and statistics.

    with Headrace("predict.example.com:443", key=KEY) as headrace:
        result = headrace.predict("flights", {"carrier": "UA", "origin": "EWR", ...})
        print(result.predictions[0].outputs)

Needs grpcio and protobuf; numpy only for `predict_columns`.
"""

from headrace.client.asynchronous import AsyncHeadrace
from headrace.client.errors import (
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    HeadraceError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from headrace.client.options import Key, Options
from headrace.client.results import (
    ColumnsResult,
    Decision,
    FeatureAge,
    Field,
    ModelUse,
    Outcome,
    OutcomeCounts,
    Pipeline,
    Prediction,
    PredictResult,
    RowFailure,
)
from headrace.client.stats import Hook, Latency, Stats
from headrace.client.synchronous import Headrace

__all__ = [
    "AsyncHeadrace",
    "CancelledError",
    "ColumnsResult",
    "DeadlineExceededError",
    "Decision",
    "FailedPreconditionError",
    "FeatureAge",
    "Field",
    "Headrace",
    "HeadraceError",
    "Hook",
    "InternalError",
    "InvalidArgumentError",
    "Key",
    "Latency",
    "ModelUse",
    "NotFoundError",
    "Options",
    "Outcome",
    "OutcomeCounts",
    "PermissionDeniedError",
    "Pipeline",
    "PredictResult",
    "Prediction",
    "ResourceExhaustedError",
    "RowFailure",
    "Stats",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
]
