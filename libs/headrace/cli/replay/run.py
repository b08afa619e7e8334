"""One replay: every record against the candidate, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from headrace.cli.installation.layout import Layout
from headrace.cli.replay.event_run import Compared
from headrace.cli.replay.hosting import PATIENCE_S, hosted
from headrace.cli.replay.recorded_features import RecordedFeatures
from headrace.cli.replay.stored_events import Record
from headrace.columns import Batch, Rows
from headrace.pipeline import Pipeline, null_column, read_model_uses


async def replay(
    layout: Layout, compared: Compared, records: Iterable[Record], done: Callable[[], None]
) -> None:
    """Runs the records on the candidate, one after another. `done`: called after each.

    Raises config.ConfigError, OSError.
    """
    features, pipeline = RecordedFeatures(), compared.candidate.pipeline
    async with hosted(layout, compared.candidate, features) as infer:
        for number, record in enumerate(records):
            features.begin(record)
            reply = await infer(batch_of(pipeline, record, number))
            models = [
                use for decision in reply.response.decisions for use in read_model_uses(decision.models)
            ]
            compared.add(record, reply.batch, models)
            done()


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
