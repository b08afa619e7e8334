"""The door marks the rows of tenants whose document says that they are regulated, and nobody else's."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from headrace.columns import Batch
from headrace.columns.batch_codec import BatchCall, ColumnCodec
from headrace.pipeline import REGULATED
from headrace.state.tenants import TenantsFile
from services.ingress.admission.extraction_guard import ExtractionGuard
from services.ingress.documents.catalog import Credential, Directory
from services.ingress.inference import InferenceRunner
from services.ingress.request_context import begin
from tests.services.ingress.test_ingress_attributes import ENTRY, NoGuard, Recorder, batch

DOCUMENT = {"tenants": {"bank": {"regulated": True}, "shop": {"regulated": False}, "other": {}}}


async def sent(tenant: str) -> Batch:
    """What reaches the router of a request of this tenant."""
    router = Recorder()
    guard = cast("ExtractionGuard", NoGuard())
    runner = InferenceRunner(router, 100, 0.001, guard, time.monotonic)
    context = begin("ModelInfer", {}, time.monotonic(), 0.0)
    directory = Directory.of(TenantsFile.model_validate(DOCUMENT))
    context.credential = Credential(directory.tenants[tenant], "k", frozenset({"predict"}))
    await runner.infer(context, ENTRY, batch(3), 0, whole=False)
    return router.got


@pytest.mark.parametrize(("tenant", "marked"), [("bank", True), ("shop", False), ("other", False)])
async def test_the_rows_of_a_regulated_tenant_are_marked(tenant: str, marked: bool) -> None:
    got = await sent(tenant)
    assert (REGULATED in got.columns) is marked
    if marked:
        assert got.columns[REGULATED].array.tolist() == [True] * 3


async def test_regulated_rows_share_no_message_with_others() -> None:
    """So that a router decides for a whole message whether it must be on the disk first."""
    codec: ColumnCodec[str, Any, Any] = ColumnCodec(lambda _: None)
    keys = {
        tenant: codec.describe(BatchCall("double", await sent(tenant)))[0] for tenant in DOCUMENT["tenants"]
    }
    assert keys["shop"] == keys["other"]
    assert keys["bank"] != keys["shop"]
