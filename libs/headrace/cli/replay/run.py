"""One replay: every record against the candidate, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from headrace.cli.installation.layout import Layout
from headrace.cli.replay.candidate import Candidate
from headrace.cli.replay.hosting import PATIENCE_S, Infer, hosted
from headrace.cli.replay.record import Record
from headrace.cli.replay.recorded_features import RecordedFeatures
from headrace.cli.replay.verdict import Verdict
from headrace.columns import Batch, Rows
from headrace.pipeline import Pipeline, null_column, read_model_uses


async def replay(
    layout: Layout,
    candidate: Candidate,
    records: Iterable[Record],
    verdict: Verdict,
    done: Callable[[], None],
) -> None:
    """Adds to the verdict what differs. `done`: called after each record.

    Raises config.ConfigError, OSError.
    """
    features = RecordedFeatures()
    async with hosted(layout, candidate, features) as infer:
        for number, record in enumerate(records):
            features.begin(record)
            await _replay(candidate.pipeline, record, number, infer, verdict)
            done()


async def _replay(pipeline: Pipeline, record: Record, number: int, infer: Infer, verdict: Verdict) -> None:
    batch = batch_of(pipeline, record, number)
    reply = await infer(batch)
    for decision, found in (
        (record.models, verdict.old_models),
        ([m for d in reply.response.decisions for m in read_model_uses(d.models)], verdict.new_models),
    ):
        for use in decision:
            found.setdefault(use.model, set()).add(use.version)
    verdict.add(record, reply.batch)


def batch_of(pipeline: Pipeline, record: Record, number: int) -> Batch:
    """The recorded batch as the candidate takes it; the request ids of its rows are NUMBER.ROW. An input that it lacks is null:
    only features stages read it, whose values are known."""
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
            columns[declared.name] = null_column(declared.name, declared.type, count)
    return replace(given, rows=rows, columns=columns)
