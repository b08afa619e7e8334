"""An old process beside a new one, for one pair of neighbours; and what one generation sends that the other does not know."""

import asyncio
import hashlib
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from headrace.api.preprocessing.v1 import preprocessing_pb2 as pb
from headrace.cli.supervision.deployed import Version
from headrace.columns import Batch, RowError, Rows, decode, encode
from headrace.columns.batch_codec import BatchCall, ColumnCodec
from headrace.hop import config
from headrace.hop.client.dial import Client
from headrace.hop.errors import Code, Fault, reason_name
from headrace.hop.testing import served
from services.ingress.clients import INFER
from services.preprocessing import wiring as preprocessing
from services.router import wiring as router
from services.router.stages.steps import TRANSFORM
from services.router.ticks.counters import ours
from tests.children import ends_with_tests
from tests.first_release import live
from tests.generations import older
from tests.services.router.router_leaves import batch_of

PREPARED = """
pipeline: prepared
version: 1
deadline_ms: 20000
inputs:
  key: {type: string}
  x: {type: float32}
stages:
  - preprocessing: prepare
    steps: [assemble: {columns: [x], into: input}]
    outputs: {input: {type: float32, shape: [1]}}
outputs: [input]
"""
UNKNOWN = 4242  # of no enum
FIELD = b"\xfa\x3f\x01x"  # field 1023


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return Version(older.unpacked(tmp_path_factory.mktemp("old")), older.OLD)


@asynccontextmanager
async def process(old: Version, service: str, folder: Path, **settings: Any) -> AsyncIterator[Client]:
    """An old process of a service, and a client of it."""
    target = f"unix:{folder / service}.sock"
    file = folder / f"{service}.yaml"
    file.write_text(yaml.safe_dump({"server": {"listen": target}, **settings}))
    command = old.command("-O", "-m", f"services.{service}", "--config", str(file))
    with subprocess.Popen(ends_with_tests(*command), cwd=old.root) as running:
        client = Client(service, config.ClientSettings(target=target))
        try:
            while not (folder / f"{service}.sock").exists():
                assert running.poll() is None, f"the old {service} has ended"
                await asyncio.sleep(0.05)
            yield client
        finally:
            await client.close()
            running.terminate()


async def prepared(client: Client) -> Batch:
    codec: ColumnCodec[str, Any, Any] = ColumnCodec(
        lambda name: INFER.request(pipeline=name), callee="router"
    )
    reply = await client.coalesced(INFER, codec)(
        BatchCall("prepared", batch_of(["a", "b"], [1.5, 2.5], 20.0))
    )
    return reply.batch


async def test_an_old_router_works_with_new_preprocessing(old: Version, tmp_path: Path) -> None:
    async with served(preprocessing.SERVICE) as leaf:
        settings = {"resources": live(tmp_path, PREPARED), "preprocessing": {"target": leaf.target}}
        async with process(old, "router", tmp_path, **settings) as client:
            answer = await prepared(client)
    assert not answer.errors
    np.testing.assert_array_equal(answer.columns["input"].array, [[1.5], [2.5]])


async def test_a_new_router_works_with_old_preprocessing_which_refuses_what_it_does_not_know(
    old: Version, tmp_path: Path
) -> None:
    async with process(old, "preprocessing", tmp_path) as leaf:
        target = {"target": f"unix:{tmp_path}/preprocessing.sock"}
        async with served(
            router.SERVICE, {"resources": live(tmp_path, PREPARED), "preprocessing": target}
        ) as new:
            answer = await prepared(new.client())
        np.testing.assert_array_equal(answer.columns["input"].array, [[1.5], [2.5]])
        await _refusals(leaf)


async def _refusals(leaf: Client) -> None:
    transform = leaf.unary(TRANSFORM)
    later = leaf.unary(replace(TRANSFORM, name="TransformLater"))
    for call, request, code, words in (
        (transform, _request(step="assemble_later"), Code.INVALID_ARGUMENT, "assemble_later"),
        (transform, _request(data_type=UNKNOWN), Code.INVALID_ARGUMENT, "no known data type"),
        (later, _request(), Code.UNIMPLEMENTED, "do both sides use one contract"),
    ):
        with pytest.raises(Fault, match=words) as refused:
            await call(request, deadline=time.monotonic() + 20)
        assert refused.value.code is code
    # A field that it does not know is none of its business.
    more = pb.TransformRequest.FromString(_request().SerializeToString() + FIELD)
    assert not decode((await transform(more, deadline=time.monotonic() + 20)).batch).errors


def _request(step: str = "assemble", data_type: int | None = None) -> pb.TransformRequest:
    steps = [{step: {"columns": ["x"], "into": "input"}}]
    spec = json.dumps({"steps": steps, "outputs": {"input": {"type": "float32", "shape": [1]}}}).encode()
    batch = encode(batch_of(["a"], [1.5], 20.0))
    if data_type is not None:
        batch.columns[0].data_type = data_type  # type: ignore[assignment]  # a number that no version has
    return pb.TransformRequest(spec=spec, spec_sha256=hashlib.sha256(spec).hexdigest(), batch=batch)


def test_a_reason_of_a_newer_service_is_ours_and_goes_on_as_it_is() -> None:
    reason: Any = UNKNOWN
    rows = Rows.one_request(1, "r", "t", time.monotonic() + 5)
    failed = Batch.of(rows, []).with_errors({0: RowError(Code.FAILED_PRECONDITION, reason, "new here")})
    message = encode(failed)
    error = decode(message).errors[0]
    assert ours(error)
    assert reason_name(error.reason) == "UNSPECIFIED"
    assert encode(decode(message)).errors[0].reason == UNKNOWN  # for the door, which may know it
    assert "UNSPECIFIED" in repr(Fault(error.code, error.reason, error.message))
