"""Calls of the features service, in the terms of its tests."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from prometheus_client import generate_latest

from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import Batch, Column, Rows, decode, encode
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.testing import Harness, served
from services.features.freshness.freshness import Source
from services.features.wiring import SERVICE
from services.router.stages.features import GET_FEATURES

# A store may be as slow as a busy machine makes it where a test is not about that.
PATIENT_S = 10.0
SQLITE: dict[str, object] = {"type": "sqlite", "path": "online_store.db"}


def serving(
    repo: Path,
    *,
    transport: Literal["unix", "local"] = "unix",
    telemetry: Telemetry | None = None,
    store_timeout_s: float = PATIENT_S,
    **settings: Any,
) -> AbstractAsyncContextManager[Harness]:
    """The service of a repository."""
    given = {"repo": repo, "store_timeout_s": store_timeout_s, **settings}
    return served(SERVICE, given, transport=transport, telemetry=telemetry)


def metrics_of(harness: Harness) -> str:
    return generate_latest(harness.runtime.telemetry.registry).decode()


@dataclass
class Features:
    """A reply. `values`: feature → one per row, None = null."""

    values: dict[str, list[object]]
    batch: Batch
    revision: str

    def sources(self, view: str) -> list[str]:
        return [Source(s).name for s in self.batch.columns[f"@source/{view}"].array.tolist()]

    def ages_s(self, view: str) -> list[float]:
        return [a / 1e6 for a in self.batch.columns[f"@age_us/{view}"].array.tolist()]


def entity_column(name: str, values: Sequence[object]) -> Column:
    if any(isinstance(v, str) for v in values):
        return Column.of_text(name, [None if v is None else str(v) for v in values])
    return Column.of(
        name, np.array([v or 0 for v in values], np.int64), np.array([v is not None for v in values])
    )


async def get(
    harness: Harness,
    entities: Mapping[str, Sequence[object]],
    service: str = "small",
    budget_s: float = 10.0,
    *,
    text: bool = True,
) -> Features:
    """`text`: whether byte strings are text, and `values` wanted."""
    columns = [entity_column(n, v) for n, v in entities.items()]
    return await ask_columns(harness, columns, service, budget_s, text=text)


async def ask_columns(
    harness: Harness,
    columns: Sequence[Column],
    service: str = "small",
    budget_s: float = 10.0,
    rules: Sequence[pb.ViewRule] = (),
    *,
    text: bool = True,
) -> Features:
    rows = Rows.one_request(len(columns[0]), "request", "tenant", time.monotonic() + budget_s)
    batch = Batch.of(rows, columns)
    call = harness.client().unary(GET_FEATURES)
    request = pb.GetFeaturesRequest(feature_service=service, batch=encode(batch), rules=rules)
    reply = await call(request, deadline=time.monotonic() + budget_s)
    decoded = decode(reply.batch)
    values = {n: plain(c) for n, c in decoded.columns.items()} if text else {}
    return Features(values, decoded, reply.plan_revision)


def plain(column: Column) -> list[object]:
    if column.dtype.name == "BYTES":
        return list(column.text())
    return [
        v if ok else None for v, ok in zip(column.array.tolist(), column.is_valid().tolist(), strict=True)
    ]
