"""The services that run the candidate, hosted in this process; every record against it, one after another."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from headrace.api.router.v1 import router_pb2 as pb
from headrace.catalog.errors import RecordsError
from headrace.cli.installation import control_place, services
from headrace.cli.installation.layout import Layout
from headrace.cli.installation.settings import files, overlaid
from headrace.cli.replay.candidate import Candidate
from headrace.cli.replay.event_run import Compared
from headrace.cli.replay.recorded_features import RecordedFeatures
from headrace.cli.replay.stored_events import Record
from headrace.columns import Batch, Rows
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.hop import config
from headrace.hop.call import unary
from headrace.hop.definition import Runtime
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server import hosting
from headrace.hop.transport.in_process import LocalServers
from headrace.pipeline import Pipeline, null_column, read_model_uses
from headrace.releases.document import to_bytes
from headrace.repository import RepositoryError
from headrace.repository.model_index import MODEL, all_indexes
from headrace.resources.offline import OfflineResources
from headrace.resources.snapshot import Resource

INFER = unary(pb.InferRequest, pb.InferResponse, idempotent=True)
Infer: TypeAlias = Callable[[Batch], Awaitable[BatchReply[pb.InferResponse]]]

# Nobody waits for an answer: a machine that is slow today must not change one.
PATIENCE_S = 600.0
_LISTEN = {"server": {"listen": "local"}}
# Batches that the candidate fails must not open a breaker for those that follow.
_CLIENT: Mapping[str, Any] = {
    "target": "local",
    "default_timeout_s": PATIENCE_S,
    "retry": {"attempts": 1},
    "breaker": {"min_calls": 1 << 40},
}


@asynccontextmanager
async def hosted(layout: Layout, candidate: Candidate, features: RecordedFeatures) -> AsyncIterator[Infer]:
    """Runs the candidate while open. Raises config.ConfigError: the settings or the models of the home can't be used."""
    telemetry = Telemetry("replay", config.Telemetry(log_level="error", trace_ratio=0))
    local = LocalServers(telemetry)
    try:
        with tempfile.TemporaryDirectory(prefix="headrace-replay-") as name:
            live = _live(layout, candidate, Path(name))
            parts = [_part(layout, service, live) for service in _callees() if service != "features"]
            parts.append((features.definition(), config.ServiceSettings.model_validate(_LISTEN)))
            parts.append(_router(live))
            async with hosting.hosted(parts, telemetry, local):
                client = Runtime("replay", telemetry, local).dial("router", config.ClientSettings(**_CLIENT))
                codec: ColumnCodec[str, pb.InferRequest, pb.InferResponse]
                codec = ColumnCodec(lambda pipeline: pb.InferRequest(pipeline=pipeline), callee="router")
                call = client.coalesced(INFER, codec)
                try:
                    yield lambda batch: call(BatchCall(candidate.pipeline.name, batch))
                finally:
                    await client.close()
    finally:
        await telemetry.close()


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


def _callees() -> tuple[str, ...]:
    """The services that stages call. Not monitoring: what a replay answers must not be counted among what callers got. Not
    control: the candidate is what is live."""
    return tuple(name for name in services.callees("router") if name not in services.ASIDE)


def _live(layout: Layout, candidate: Candidate, folder: Path) -> dict[str, Any]:
    """The candidate as what is live; returns the setting `resources`. Raises config.ConfigError."""
    try:
        with control_place.records(layout) as records:
            indexes = all_indexes(records)
    except (RecordsError, RepositoryError) as error:
        raise config.ConfigError(str(error)) from None
    name, revision = candidate.pipeline.name, candidate.pipeline.revision
    resources = OfflineResources(folder)
    resources.write(
        [
            Resource.of("release", name, to_bytes(candidate.release)),
            Resource.of("document", f"{name}/{revision}", candidate.text.encode()),
            *(Resource.of(MODEL, model, index.content()) for model, index in indexes.items()),
        ]
    )
    return resources.settings


def _router(live: Mapping[str, Any]) -> hosting.Part:
    definition = hosting.definition_named("router")
    values = {
        **_LISTEN,
        "resources": live,
        "features_timeout_s": PATIENCE_S,
        "events": {"nothing_regulated": True},
        **dict.fromkeys(_callees(), _CLIENT),
    }
    return definition, definition.config.model_validate(values)


def _part(layout: Layout, service: str, live: Mapping[str, Any]) -> hosting.Part:
    """A service with the settings of the home, but with no state of what serves there."""
    definition = hosting.definition_named(service)
    values: dict[str, Any] = {**files(layout).get(service, {}), **_added(layout, service)}
    if service == "executor":
        values |= {
            "resources": live,
            "state": str(layout.replay_state),
            "start_s": PATIENCE_S,
        }
        values |= {"access_log": None, "load": "released"}
    values.pop("server", None)
    values.pop("telemetry", None)
    return definition, definition.config.model_validate({**values, **_LISTEN})


def _added(layout: Layout, service: str) -> dict[str, Any]:
    """What a person has added to the settings of a service, in either shape."""
    own = _read(layout.override(service))
    together = _read(layout.override(services.INGRESS)).get("together")
    found = together.get(service) if isinstance(together, dict) else None
    return overlaid(found if isinstance(found, dict) else {}, own)


def _read(path: Path) -> Mapping[str, Any]:
    return config.read(path).values if path.exists() else {}
