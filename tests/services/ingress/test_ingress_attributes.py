"""Attributes for the rules of releases come from the headers that the settings name, and from no others. The door marks
the rows of tenants whose document says that they are regulated, and nobody else's."""

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from headrace.columns import Batch, Column, Rows, concat, decode, encode
from headrace.columns.batch_codec import BatchCall, ColumnCodec
from headrace.hop.config import ClientSettings, ConfigError, load
from headrace.pipeline import REGULATED, parse
from headrace.state.tenants import TenantsFile
from services.ingress.admission.extraction_guard import ExtractionGuard
from services.ingress.attributes import Attributes
from services.ingress.config import IngressSettings
from services.ingress.documents.catalog import Credential, Directory, Entry
from services.ingress.inference import InferenceRunner
from services.ingress.ports import Routed
from services.ingress.request_context import begin
from tests.services.ingress.ingress_door import PIPELINE

ENTRY = Entry.of(parse(PIPELINE, "double.yaml"))
DOCUMENT = {"tenants": {"bank": {"regulated": True}, "shop": {"regulated": False}, "other": {}}}


class Recorder:
    """A router that answers with what it got."""

    got: Batch

    async def infer(self, pipeline: str, version: int, batch: Batch) -> Routed:
        self.got = batch
        return Routed(batch, (), ())


class NoGuard:
    def check(self, *_: object) -> None:
        """Lets all pass."""


def batch(count: int) -> Batch:
    rows = Rows.one_request(count, "r", "t", time.monotonic() + 60)
    return Batch.of(
        rows, [Column.of("x", np.zeros((count, 2), np.float32)), Column.of("n", np.zeros(count, np.int32))]
    )


async def sent(attributes: Attributes | None, headers: dict[bytes, bytes], count: int = 3) -> Batch:
    router = Recorder()
    guard = cast("ExtractionGuard", NoGuard())
    runner = InferenceRunner(router, 100, 0.001, guard, time.monotonic, attributes)
    context = begin("ModelInfer", headers, time.monotonic(), 0.0)
    await runner.infer(context, ENTRY, batch(count), 0, whole=False)
    return router.got


async def test_each_row_has_the_values_of_its_requests_headers() -> None:
    attributes = Attributes({"beta": "x-beta", "region": "x-region"})
    got = await sent(attributes, {b"x-beta": b"yes", b"x-other": b"no"})
    assert got.columns["@attribute/beta"].text() == ["yes"] * 3
    assert got.columns["@attribute/region"].text() == [None] * 3
    assert {n for n in got.columns if n.startswith("@")} == {"@attribute/beta", "@attribute/region"}
    # Requests with and without a header share messages.
    other = await sent(attributes, {b"x-region": b"eu"}, 1)
    both = decode(encode(concat([got, other]))).columns
    assert both["@attribute/beta"].text() == ["yes"] * 3 + [None]
    assert both["@attribute/region"].text() == [None] * 3 + ["eu"]


async def test_without_settings_there_are_none_and_what_is_long_is_absent() -> None:
    assert not any(n.startswith("@") for n in (await sent(None, {b"x-beta": b"yes"})).columns)
    attributes = Attributes({"beta": "x-beta"})
    for size, there in ((256, True), (257, False)):
        got = await sent(attributes, {b"x-beta": b"a" * size})
        assert got.columns["@attribute/beta"].is_valid().tolist() == [there] * 3


def settings(tmp_path: Path, attributes: Any) -> IngressSettings:
    return IngressSettings(
        run_dir=tmp_path,
        pipelines=tmp_path,
        tenants=tmp_path,
        pepper=tmp_path,
        router=ClientSettings(target="unix:/none"),
        attributes=attributes,
    )


@pytest.mark.parametrize(
    "wrong",
    [{"a b": "x-beta"}, {"": "x"}, {"a": "X-Beta"}, {"a": "authorization"}, {"a": "x-api-key"}, {"a": ""}],
)
def test_wrong_settings_are_refused(tmp_path: Path, wrong: dict[str, str]) -> None:
    assert settings(tmp_path, {"beta": "x-beta"}).attributes == {"beta": "x-beta"}
    with pytest.raises(ValueError, match="`attributes`: "):
        settings(tmp_path, wrong)


def test_there_are_few(tmp_path: Path) -> None:
    file = tmp_path / "ingress.yaml"
    file.write_text("attributes: {" + ", ".join(f"a{i}: x-{i}" for i in range(9)) + "}\n")
    with pytest.raises(ConfigError, match="line 1, attributes: Dictionary should have at most 8 items"):
        load(IngressSettings, file, {})


async def rows_of(tenant: str) -> Batch:
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
    got = await rows_of(tenant)
    assert (REGULATED in got.columns) is marked
    if marked:
        assert got.columns[REGULATED].array.tolist() == [True] * 3


async def test_regulated_rows_share_no_message_with_others() -> None:
    """So that a router decides for a whole message whether it must be on the disk first."""
    codec: ColumnCodec[str, Any, Any] = ColumnCodec(lambda _: None)
    keys = {tenant: codec.key(BatchCall("double", await rows_of(tenant))) for tenant in DOCUMENT["tenants"]}
    assert keys["shop"] == keys["other"]
    assert keys["bank"] != keys["shop"]
