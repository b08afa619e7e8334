"""ExplanationReport → explanations, works and counts."""

from __future__ import annotations

import math

from headrace.api.monitoring.v1 import explanations_pb2 as pb
from services.monitoring.cost.from_explanations import ExplanationWork
from services.monitoring.explanations.records import Explanation

_ID_BYTES = 16
_MOST, _MOST_COLUMNS = 1000, 256
_MOST_WORKS = 2000


class UnreadableError(ValueError):
    """No router sends it. The text names the field."""


def read(message: pb.ExplanationReport) -> tuple[list[Explanation], list[ExplanationWork], dict[str, int]]:
    """Explanations, what they took, and how many predictions of each pipeline must be explained. Raises UnreadableError."""
    if len(message.explanations) > _MOST:
        raise UnreadableError(f"explanations: at most {_MOST} in one message")
    if len(message.works) > _MOST_WORKS:
        raise UnreadableError(f"works: at most {_MOST_WORKS} in one message")
    found = [_explanation(f"explanations[{i}]", e) for i, e in enumerate(message.explanations)]
    works = [_work(f"works[{i}]", w) for i, w in enumerate(message.works)]
    demanded: dict[str, int] = {}
    for each in message.demanded:
        demanded[each.pipeline] = demanded.get(each.pipeline, 0) + each.prediction_count
    return found, works, demanded


def _work(place: str, message: pb.ExplanationWork) -> ExplanationWork:
    """Raises UnreadableError."""
    if not message.pipeline:
        raise UnreadableError(f"{place}.pipeline is empty")
    busy = dict(message.busy_us)
    if not all(math.isfinite(us) and us >= 0 for us in busy.values()):
        raise UnreadableError(f"{place}.busy_us is no time")
    return ExplanationWork(
        message.tenant, message.pipeline, message.explanation_count, message.row_count, busy
    )


def _explanation(place: str, message: pb.Explanation) -> Explanation:
    """Raises UnreadableError."""
    lists = (message.columns, message.contributions, message.standard_errors, message.base_sources)
    count = len(message.columns)
    if len(message.prediction_id) != _ID_BYTES:
        raise UnreadableError(f"{place}.prediction_id has {_ID_BYTES} bytes")
    if not message.pipeline:
        raise UnreadableError(f"{place}.pipeline is empty")
    if not 0 < count <= _MOST_COLUMNS or {len(each) for each in lists} != {count}:
        raise UnreadableError(f"{place}: the lists have one value for each of 1 to {_MOST_COLUMNS} columns")
    numbers = (message.base, message.value, *message.contributions, *message.standard_errors)
    if not all(map(math.isfinite, numbers)):
        raise UnreadableError(f"{place}: all numbers are finite")
    return Explanation(
        message.prediction_id,
        message.tenant,
        message.pipeline,
        message.revision,
        message.arm,
        message.output,
        message.base,
        message.value,
        message.exact,
        tuple(message.columns),
        tuple(message.contributions),
        tuple(message.standard_errors),
        tuple(message.base_sources),
    )
