"""Answers → Open Inference Protocol responses: always as raw contents, one entry per output."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, MutableMapping, Sequence

from headrace.api.features.v1 import features_pb2
from headrace.columns import Batch, Column, Ragged
from headrace.columns.oip_tensors import pack_bytes
from headrace.hop.errors import Code, Fault, Reason
from headrace.oip import open_inference_pb2 as pb
from headrace.pipeline import Decision, ModelUse
from services.ingress.documents.catalog import Entry
from services.ingress.inference import InferenceResult

_SOURCE = "@source/"
# As many as a message of the router may well have arms.
_KEPT_LISTS = 8
# Annotation of the router, int64 µs: age of the kept answer that a row got; −1: it got a new one.
CACHED = "@cached_us"


def wanted_outputs(request: pb.ModelInferRequest, entry: Entry) -> list[str]:
    """Names of the outputs that a request asks for; all if it names none.

    Raises Fault INVALID_ARGUMENT for an unknown name, or an extension that headrace does not have.
    """
    if not request.outputs:
        return list(entry.outputs)
    names = []
    for output in request.outputs:
        name = output.name
        if name not in entry.outputs:
            known = ", ".join(entry.outputs)
            raise Fault(
                Code.INVALID_ARGUMENT,
                Reason.REASON_INPUT_UNKNOWN,
                f"no output {name[:80]!r}; pipeline {entry.pipeline.name} has the outputs {known}",
                metadata={"output": name[:80], "outputs": known},
            )
        for extension in ("classification", "shared_memory_region"):
            if extension in output.parameters:
                raise Fault(
                    Code.INVALID_ARGUMENT,
                    Reason.REASON_MALFORMED_REQUEST,
                    f"output {name}: {extension} is not supported",
                    metadata={"output": name, "parameter": extension},
                )
        names.append(name)
    return names


class Responses:
    """Writes responses. If requests shared a message of the router, asked for the same outputs and used the same fallbacks, their
    responses differ only in identity and values. The rest is written for the first of them and reused for the others."""

    def __init__(self) -> None:
        # By address: while a list is kept here, no other list can have its address. Requests that shared a message of the router
        # and took one arm have the same list.
        self._decisions: dict[int, Sequence[Decision]] = {}
        self._heads: dict[Hashable, bytes] = {}

    def write(self, answer: InferenceResult, names: list[str], request_id: str) -> pb.ModelInferResponse:
        """The response with the outputs `names`. Raises Fault INTERNAL if the router did not give one of them."""
        batch = answer.batch
        outputs = []
        for name in names:
            column = batch.columns.get(name)
            if column is None:
                raise Fault(Code.INTERNAL, Reason.REASON_INTERNAL, f"the pipeline gave no output {name}")
            outputs.append(column)
        decisions = id(answer.decisions)
        if decisions not in self._decisions:
            if len(self._decisions) >= _KEPT_LISTS:
                self._decisions, self._heads = {}, {}
            self._decisions[decisions] = answer.decisions
        # A view with missing values is also a fallback, so without a fallback there is nothing to look for.
        absent = tuple(absent_features(batch)) if answer.fallbacks else ()
        decided = tuple(answer.decided) if answer.decided else ()
        models = answer.models
        used = tuple([(m.stage, m.model) for m in models]) if len(models) > 1 else ()
        key = (
            decisions,
            answer.entry.pipeline.revision,
            tuple(names),
            len(batch),
            tuple(answer.fallbacks),
            absent,
            decided,
            used,
        )
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = _head(answer, models, outputs, absent).SerializeToString()
        reply = pb.ModelInferResponse.FromString(head)
        reply.id = request_id
        reply.raw_output_contents.extend([raw_contents(c) for c in outputs])
        if CACHED in batch.columns:
            _add_cached(batch.columns[CACHED], reply)
        return reply


def _add_cached(ages: Column, reply: pb.ModelInferResponse) -> None:
    """How many rows got an answer that was kept, and the age of the oldest."""
    kept = [age for age in ages.array.tolist() if age >= 0]
    if kept:
        reply.parameters["cached_rows"].int64_param = len(kept)
        reply.parameters["cached_age_ms"].int64_param = max(kept) // 1000


def _head(
    answer: InferenceResult,
    models: Sequence[ModelUse],
    outputs: Iterable[Column],
    absent: Iterable[tuple[str, str]],
) -> pb.ModelInferResponse:
    """A response without identity and values."""
    count = len(answer.batch)
    reply = pb.ModelInferResponse(model_name=answer.entry.pipeline.name, model_version=str(answer.version))
    for column in outputs:
        shape = (count, *(column.row_shape or (1,)))
        reply.outputs.add(name=column.name, datatype=column.dtype.oip, shape=shape)
    parameters = reply.parameters
    parameters["revision"].string_param = answer.revision
    if answer.decision is not None:
        parameters["models"].string_param = ",".join(f"{m.model}:{m.version}" for m in models)
        parameters["backends"].string_param = ",".join(m.backend for m in models)
        if any(m.cold_start for m in models):
            parameters["cold_start"].bool_param = True
        _tell_arms(answer, parameters)
    if answer.fallbacks:
        parameters["fallbacks"].string_param = ",".join(name for name, _ in answer.fallbacks)
        for view, source in absent:
            parameters[f"features.{view}"].string_param = source
    return reply


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
        if name.startswith(_SOURCE):
            for value in column.array.tolist():
                if value != features_pb2.SOURCE_PRESENT:
                    found.append((name.removeprefix(_SOURCE), source_name(value)))
                    break
    return found


def source_name(value: int) -> str:
    """`present`, `not_found`, … of a headrace.api.features.v1.Source."""
    try:
        return features_pb2.Source.Name(value).removeprefix("SOURCE_").lower()
    except ValueError:
        return "unknown"
