"""One recorded batch: what came, the feature values that were read for it, and what was answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf.message import DecodeError

from headrace.api.router.v1 import recording_pb2 as pb
from headrace.columns import Batch, Column, Rows, decode, decode_columns, encode_columns, encode_into
from headrace.hop.errors import Fault
from headrace.pipeline import Decision, read_model_uses, write_model_uses
from headrace.recordings.frames import RecordingError, read_frames


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A batch on one route. `features`: columns and annotations that the features stages gave, by name; `answer`: outputs and
    errors, its rows are those of `inputs`; `redacted`: inputs with personal data that were left out."""

    pipeline: str
    at: datetime
    inputs: Batch
    features: Mapping[str, Column]
    answer: Batch
    decision: Decision
    fallbacks: Sequence[str] = ()
    redacted: Sequence[str] = ()


def encode_record(record: Record) -> bytes:
    """The content of its frame. Deadlines and trace contexts are left out."""
    message = pb.RecordedBatch(pipeline=record.pipeline, redacted=record.redacted)
    message.recorded_time.FromDatetime(record.at)
    rows, count = record.inputs.rows, len(record.inputs)
    plain = Rows(rows.request_ids, rows.tenants, rows.priorities, [0.0] * count, [""] * count)
    encode_into(message.inputs, Batch(plain, record.inputs.columns, record.inputs.errors), 0.0)
    message.features.extend(encode_columns(record.features.values()))
    answer = message.answer
    # The answer's rows are those of the request; their number is in its row contexts all the same, as `decode` needs it.
    nameless = Rows([""] * count, [""] * count, [0] * count, [0.0] * count, [""] * count)
    encode_into(answer.batch, replace(record.answer, rows=nameless, timings=()), 0.0)
    answer.fallbacks.extend(record.fallbacks)
    decision = record.decision
    added = answer.decisions.add(version=decision.version, revision=decision.revision, route=decision.route)
    write_model_uses(decision.models, added.models)
    return message.SerializeToString()


def decode_record(content: bytes) -> Record:
    """The record of a frame's content. Raises RecordingError."""
    try:
        message = pb.RecordedBatch.FromString(content)
        inputs, answer = decode(message.inputs), decode(message.answer.batch)
        features = decode_columns(message.features, len(inputs))
    except DecodeError:
        raise RecordingError("a frame holds no message") from None
    except Fault as fault:
        raise RecordingError(f"a frame holds a malformed batch: {fault.message}") from None
    if len(message.answer.decisions) != 1 or len(answer) != len(inputs):
        raise RecordingError("a frame holds no answer to its batch")
    [decision] = message.answer.decisions
    return Record(
        message.pipeline,
        message.recorded_time.ToDatetime(UTC),
        inputs,
        features,
        replace(answer, rows=inputs.rows),
        Decision(decision.version, decision.revision, decision.route, read_model_uses(decision.models)),
        list(message.answer.fallbacks),
        list(message.redacted),
    )


def read_records(paths: Iterable[Path]) -> Iterator[Record]:
    """The records of some files, one after another. Raises RecordingError that names the file; OSError."""
    for path in paths:
        for number, content in enumerate(read_frames(path), 1):
            try:
                yield decode_record(content)
            except RecordingError as error:
                raise RecordingError(f"{path}, frame {number}: {error}") from None
