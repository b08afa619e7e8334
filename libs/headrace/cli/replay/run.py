"""One replay: every record against the candidate, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from headrace.cli.installation.layout import Layout
from headrace.cli.replay.candidate import Candidate, ReplayError
from headrace.cli.replay.hosting import PATIENCE_S, Infer, hosted
from headrace.cli.replay.recorded_features import RecordedFeatures
from headrace.cli.replay.verdict import Verdict
from headrace.columns import Batch, Rows
from headrace.pipeline import Pipeline, kind_of, null_column, read_model_uses
from headrace.recordings import Record


async def replay(
    layout: Layout,
    candidate: Candidate,
    records: Iterable[Record],
    verdict: Verdict,
    done: Callable[[], None],
) -> None:
    """Adds to the verdict what differs. `done`: called after each record.

    Raises ReplayError for records that the candidate can't run, RecordingError, config.ConfigError, OSError.
    """
    features = RecordedFeatures(candidate.pipeline)
    async with hosted(layout, candidate, features) as infer:
        for number, record in enumerate(records):
            if record.pipeline == candidate.pipeline.name:
                features.begin(record)
                await _replay(candidate.pipeline, record, number, infer, verdict)
            done()


async def _replay(pipeline: Pipeline, record: Record, number: int, infer: Infer, verdict: Verdict) -> None:
    batch = batch_of(pipeline, record, number)
    reply = await infer(batch)
    for decision, found in (
        (record.decision.models, verdict.old_models),
        ([m for d in reply.response.decisions for m in read_model_uses(d.models)], verdict.new_models),
    ):
        for use in decision:
            found.setdefault(use.model, set()).add(use.version)
    verdict.add(record, reply.batch)


def batch_of(pipeline: Pipeline, record: Record, number: int) -> Batch:
    """The recorded batch as the candidate takes it; the request ids of its rows are NUMBER.ROW. Raises ReplayError."""
    given, count = record.inputs, len(record.inputs)
    deadline = time.monotonic() + PATIENCE_S
    rows = Rows(
        [f"{number}.{row}" for row in range(count)],
        given.rows.tenants,
        given.rows.priorities,
        [deadline] * count,
        [""] * count,
    )
    columns = dict(given.columns)
    for declared in pipeline.inputs:
        if declared.name not in columns:
            _check_unneeded(pipeline, record, declared.name)
            columns[declared.name] = null_column(declared.name, declared.type, count)
    _check_features(pipeline, record)
    return replace(given, rows=rows, columns=columns)


def _check_unneeded(pipeline: Pipeline, record: Record, name: str) -> None:
    """An input that was not recorded may be absent if only features stages read it, whose values are known."""
    readers = [s.name for s in pipeline.stages if not kind_of(s).varies and name in kind_of(s).reads(s)]
    if any(o.name == name for o in pipeline.outputs):
        readers.append("(outputs)")
    if not readers:
        return
    if name in record.redacted:
        why = "it is personal data, which was left out; record with `personal_data: store`"
    else:
        why = "the recorded requests had no such input"
    raise ReplayError(f"the input {name!r}, which {', '.join(readers)} reads, was not recorded: {why}")


def _check_features(pipeline: Pipeline, record: Record) -> None:
    if not record.features and record.answer.errors:
        return  # every row failed before its values were read
    for stage in pipeline.stages:
        if kind_of(stage).varies:
            names = [w.column for w in kind_of(stage).writes(stage)]
            lacking = [name for name in names if name not in record.features]
            if lacking:
                raise ReplayError(
                    f"the features {', '.join(lacking)} of stage {stage.name!r} were not recorded: the pipeline that answered "
                    "did not read them; replay what a pipeline that reads them has answered"
                )
