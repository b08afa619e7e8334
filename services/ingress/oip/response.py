"""Answers → Open Inference Protocol responses: always as raw contents, one entry per output."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping

from headrace.api.features.v1 import features_pb2
from headrace.columns import Batch, Column, Ragged
from headrace.columns.oip_tensors import pack_bytes
from headrace.oip import open_inference_pb2 as pb
from services.ingress.inference import InferenceResult

# Prefix of the annotations that say where a row's features of a view came from.
SOURCE = "@source/"
# Annotation of the router, int64 µs: age of the kept answer that a row got; −1: it got a new one.
CACHED = "@cached_us"


def write(answer: InferenceResult, names: Iterable[str], request_id: str) -> pb.ModelInferResponse:
    """The response with the outputs `names`. Raises Fault INTERNAL if the router did not give one of them."""
    batch = answer.batch
    reply = pb.ModelInferResponse(
        model_name=answer.entry.pipeline.name, model_version=str(answer.version), id=request_id
    )
    for column in answer.outputs(names):
        shape = (len(batch), *(column.row_shape or (1,)))
        reply.outputs.add(name=column.name, datatype=column.dtype.oip, shape=shape)
        reply.raw_output_contents.append(raw_contents(column))
    parameters = reply.parameters
    parameters["revision"].string_param = answer.revision
    if answer.decision is not None:
        models = answer.models
        parameters["models"].string_param = ",".join(f"{m.model}:{m.version}" for m in models)
        parameters["backends"].string_param = ",".join(m.backend for m in models)
        if any(m.cold_start for m in models):
            parameters["cold_start"].bool_param = True
        _tell_arms(answer, parameters)
    if answer.fallbacks:
        parameters["fallbacks"].string_param = ",".join(name for name, _ in answer.fallbacks)
        # A view with missing values is also a fallback, so without a fallback there is nothing to look for.
        for view, source in absent_features(batch):
            parameters[f"features.{view}"].string_param = source
    if CACHED in batch.columns:
        _add_cached(batch.columns[CACHED], reply)
    return reply


def _add_cached(ages: Column, reply: pb.ModelInferResponse) -> None:
    """How many rows got an answer that was kept, and the age of the oldest."""
    kept = [age for age in ages.array.tolist() if age >= 0]
    if kept:
        reply.parameters["cached_rows"].int64_param = len(kept)
        reply.parameters["cached_age_ms"].int64_param = max(kept) // 1000


def _tell_arms(answer: InferenceResult, parameters: MutableMapping[str, pb.InferParameter]) -> None:
    """The arm that answered, and why. If rows took several: comma-separated lists, and the place of each row in them."""
    several = answer.decisions
    parameters["arm"].string_param = ",".join(d.route for d in several)
    if any(d.rule for d in several):
        parameters["rule"].string_param = ",".join(d.rule for d in several)
    if several[0].release:
        parameters["release"].int64_param = several[0].release
        parameters["sticky"].bool_param = all(d.sticky for d in several)
    if answer.decided:
        parameters["decisions"].string_param = ",".join(map(str, answer.decided))


def raw_contents(column: Column) -> bytes:
    """Little-endian elements; each byte string as its 4-byte length and its bytes."""
    values = column.values
    if isinstance(values, Ragged):
        return pack_bytes(values.to_list())
    return values.tobytes()


def absent_features(batch: Batch) -> list[tuple[str, str]]:
    """Feature views with missing values, and the source used instead (that of the first row that lacked them)."""
    found = []
    for name, column in batch.columns.items():
        if name.startswith(SOURCE):
            for value in column.array.tolist():
                if value != features_pb2.SOURCE_PRESENT:
                    found.append((name.removeprefix(SOURCE), source_name(value)))
                    break
    return found


def source_name(value: int) -> str:
    """`present`, `not_found`, … of a headrace.api.features.v1.Source."""
    try:
        return features_pb2.Source.Name(value).removeprefix("SOURCE_").lower()
    except ValueError:
        return "unknown"
