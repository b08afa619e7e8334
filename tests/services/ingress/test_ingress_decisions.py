"""What goes with rows to the router, and comes back: attributes for the rules of releases, from the headers that the settings
name; marks of regulated tenants; and of its own rows alone, which arm answered them and why."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from google.protobuf.message import Message

from headrace.access.specs import QuotaSpec
from headrace.api.inference.v1 import inference_pb2
from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.api.router.v1 import router_pb2
from headrace.client.arrays import columns_result
from headrace.client.messages import predict_result
from headrace.columns import Batch, Column, Rows, concat, decode, encode
from headrace.columns.batch_codec import BatchCall, BatchReply, ColumnCodec
from headrace.hop.client.dial import Client
from headrace.hop.config import ClientSettings
from headrace.hop.errors import Fault
from headrace.pipeline import REGULATED, Decision, ModelUse, parse
from headrace.resources import ResourceSettings
from services.ingress.admission.extraction_guard import ExtractionGuard
from services.ingress.attributes import Attributes
from services.ingress.clients import HopRouter
from services.ingress.config import IngressSettings
from services.ingress.documents.catalog import Catalog, Credential, Entry, Tenant
from services.ingress.idempotency.calls import IdempotentCalls
from services.ingress.inference import InferenceResult, InferenceRunner, Routed
from services.ingress.oip.response import write
from services.ingress.predict import service
from services.ingress.predict.response import write_columns, write_models, write_rows
from services.ingress.predict.service import InferenceServicer
from services.ingress.request_context import begin
from tests.services.ingress.ingress_door import PIPELINE

ENTRY = Entry.of(parse(PIPELINE, "double.yaml"))
DECISIONS = [
    router_pb2.Decision(version=3, revision="aa", route="live", release=7, sticky=True),
    router_pb2.Decision(version=3, revision="aa", route="live", release=7, rule="staff"),
    router_pb2.Decision(
        version=4,
        revision="bb",
        route="candidate",
        release=7,
        sticky=True,
        models=[
            router_pb2.ModelUse(stage="m", model="doubler", version="2", sha256="ff"),
            router_pb2.ModelUse(stage="m", model="trebler", version="5", sha256="ee"),
        ],
    ),
]


class SharedMessage:
    """Stands for hop's client: each call gets its own rows, with the response that all share."""

    callee = "router"

    def __init__(self, decisions: list[router_pb2.Decision]) -> None:
        self.response = router_pb2.InferResponse(decisions=decisions)

    def coalesced(self, method: object, codec: object, upcoming: object = None) -> Any:
        async def call(item: BatchCall[Any]) -> BatchReply[router_pb2.InferResponse]:
            return BatchReply(self.response, item.batch)

        return call


def batch(decisions: list[int] | None) -> Batch:
    count = len(decisions or [0])
    columns = [
        Column.of("y", np.zeros((count, 2), np.float32)),
        Column.of("big", np.zeros(count, bool)),
        Column.of_text("said", ["a"] * count),
        Column.of("@fallbacks", np.zeros(count, np.uint64)),
    ]
    if decisions is not None:
        columns.append(Column.of("@decision", np.array(decisions, np.uint32)))
    return Batch.of(Rows.one_request(count, "r", "t", 9.0), columns)


def router(decisions: list[router_pb2.Decision] = DECISIONS) -> HopRouter:
    return HopRouter(cast("Client", SharedMessage(decisions)))


def answer(routed: Routed) -> InferenceResult:
    return InferenceResult(ENTRY, routed.batch, (), routed.decisions, 0.0, 0.0, routed.decided)


async def asked(decisions: list[int] | None, of: list[router_pb2.Decision] = DECISIONS) -> InferenceResult:
    return answer(await router(of).infer("double", 0, batch(decisions)))


async def test_a_request_sees_only_the_decisions_of_its_rows() -> None:
    one = router()
    both = [await one.infer("double", 0, batch([2, 2])) for _ in range(2)]
    assert [d.route for d in both[0].decisions] == ["candidate"]
    assert both[0].decided is None
    mixed = await one.infer("double", 0, batch([2, 0, 2]))
    assert [d.route for d in mixed.decisions] == ["live", "candidate"]
    assert mixed.decided == [1, 0, 1]
    assert [d.route for d in (await router(DECISIONS[:1]).infer("double", 0, batch(None))).decisions] == [
        "live"
    ]
    assert not (await router([]).infer("double", 0, batch(None))).decisions


async def test_oip_parameters_name_arm_release_and_rule() -> None:
    alone = write(await asked([1]), ["y"], "a").parameters
    assert {n: alone[n].string_param for n in ("arm", "rule")} == {"arm": "live", "rule": "staff"}
    assert (alone["release"].int64_param, alone["sticky"].bool_param) == (7, False)
    assert "decisions" not in alone
    reply = write(await asked([2, 2]), ["y"], "b")
    assert (reply.model_version, reply.parameters["models"].string_param) == ("4", "doubler:2,trebler:5")
    assert (reply.parameters["arm"].string_param, reply.parameters["sticky"].bool_param) == (
        "candidate",
        True,
    )
    assert "rule" not in reply.parameters
    for index, expected in (([2, 0, 1], "2,0,1"), ([0, 1, 2], "0,1,2")):
        mixed = write(await asked(index), ["y"], "c").parameters
        assert mixed["arm"].string_param == "live,live,candidate"
        assert mixed["rule"].string_param == ",staff,"
        assert mixed["decisions"].string_param == expected


async def test_each_prediction_names_its_arm() -> None:
    found = await asked([2, 0, 1])
    reply = inference_pb2.PredictResponse()
    write_models(found, reply)
    write_rows(found, reply)
    result = predict_result(reply)
    assert [(p.decision.arm, p.decision.rule, p.decision.version) for p in result.predictions] == [
        ("candidate", "", 4),
        ("live", "", 3),
        ("live", "staff", 3),
    ]
    assert [d.release for d in result.decisions] == [7, 7, 7]
    assert result.predictions[0].decision.models[0].model == "doubler"


async def test_columns_have_an_index_of_decisions_only_if_there_are_several() -> None:
    for index, expected in (([2, 0, 2], [1, 0, 1]), ([2, 2], None)):
        found = await asked(index)
        reply = inference_pb2.PredictResponse()
        write_models(found, reply)
        write_columns(found, reply)
        result = columns_result(reply, len(index))
        arms = [d.arm for d in result.decisions]
        assert arms == (["live", "candidate"] if expected else ["candidate"])
        assert ("@decision" in result.columns) == (expected is not None)
        if expected:
            assert result.columns["@decision"].tolist() == expected


def answered(rows: int = 1) -> InferenceResult:
    columns = [
        Column.of("y", np.zeros((rows, 2), np.float32)),
        Column.of("big", np.zeros(rows, bool)),
        Column.of_text("said", ["a"] * rows),
        Column.of("@source/weather", np.full(rows, 1, np.uint8)),
    ]
    decision = Decision(3, "abc", "default", [ModelUse("m", "doubler", "1", "ff")])
    batch = Batch.of(Rows.one_request(rows, "r", "demo", 1.0), columns)
    return InferenceResult(ENTRY, batch, [], [decision], 0.0, 0.0)


def test_backends_and_cold_starts_are_told() -> None:
    models = [
        ModelUse("m", "a", "1", "ff", "remote:edge"),
        ModelUse("n", "b", "2", "ee", "onnxruntime", True, True),
    ]
    given_answer = replace(answered(), decisions=[Decision(3, "abc", "default", models)])
    parameters = write(given_answer, ["y"], "a").parameters
    assert parameters["backends"].string_param == "remote:edge,onnxruntime"
    assert parameters["cold_start"].bool_param
    assert "cold_start" not in write(answered(), ["y"], "a").parameters


def test_an_output_that_is_missing_is_noticed() -> None:
    whole = answered()
    columns = {n: c for n, c in whole.batch.columns.items() if n != "big"}
    lacking = InferenceResult(ENTRY, Batch(whole.batch.rows, columns), (), whole.decisions, 0.0, 0.0)
    with pytest.raises(Fault, match="gave no output big"):
        write(lacking, ["y", "big"], "b")


def with_ages(ages: list[int]) -> InferenceResult:
    given_answer = answered(len(ages))
    column = Column.of("@cached_us", np.array(ages, np.int64))
    return replace(given_answer, batch=given_answer.batch.with_columns([column]))


def test_kept_answers_are_told_with_their_ages() -> None:
    parameters = write(with_ages([-1, 5_000, 9_999_999]), ["y"], "a").parameters
    assert parameters["cached_rows"].int64_param == 2
    assert parameters["cached_age_ms"].int64_param == 9_999
    for ages in ([-1], [-1, -1, -1]):
        assert "cached_rows" not in write(with_ages(ages), ["y"], "a").parameters
    reply = pb.PredictResponse()
    write_rows(with_ages([-1, 5_000, 0]), reply)
    ages_ms = [p.cached_age_ms if p.HasField("cached_age_ms") else None for p in reply.predictions]
    assert ages_ms == [None, 5, 0]


class Recorder:
    """A router that answers with what it got."""

    got: Batch

    async def infer(self, pipeline: str, version: int, batch: Batch) -> Routed:
        self.got = batch
        return Routed(batch, (), ())


class NoGuard:
    def check(self, *_: object) -> None:
        """Lets all pass."""


def routed_batch(count: int) -> Batch:
    rows = Rows.one_request(count, "r", "t", time.monotonic() + 60)
    return Batch.of(
        rows, [Column.of("x", np.zeros((count, 2), np.float32)), Column.of("n", np.zeros(count, np.int32))]
    )


async def sent(
    attributes: Attributes | None, headers: dict[bytes, bytes], count: int = 3, tenant: str = "other"
) -> Batch:
    """What reaches the router of a request of this tenant."""
    router = Recorder()
    guard = cast("ExtractionGuard", NoGuard())
    runner = InferenceRunner(cast("HopRouter", router), 100, guard, time.monotonic, attributes)
    context = begin("ModelInfer", headers, time.monotonic(), 0.0)
    who = Tenant(tenant, frozenset({"*"}), QuotaSpec(), 1, regulated=tenant == "bank")
    context.credential = Credential(who, "k", frozenset({"predict"}))
    await runner.infer(context, ENTRY, routed_batch(count), 0, whole=False)
    return router.got


async def test_others_get_their_turn_while_many_rows_are_read_and_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tenant = Tenant("t", frozenset({"double"}), QuotaSpec(), 1)
    guard, router = cast("ExtractionGuard", NoGuard()), cast("HopRouter", Recorder())
    runner = InferenceRunner(router, 300, guard, time.monotonic)
    catalog = Catalog({"double": ENTRY.pipeline}, frozenset())
    servicer = InferenceServicer(catalog, runner, cast("IdempotentCalls", None))
    request = pb.PredictRequest(pipeline="double", request_id="r")
    for i in range(300):
        request.rows.add().update({"x": [i, 0], "n": "many" if i in (5, 200) else 1})

    async def predicted(rows_at_once: int) -> tuple[Message, int]:
        monkeypatch.setattr(service, "_ROWS_AT_ONCE", rows_at_once)
        context = begin("Predict", {}, time.monotonic(), 0.0)
        context.credential = Credential(tenant, "k", frozenset({"predict"}))
        task, turns = asyncio.create_task(servicer.Predict(request, context)), 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        reply = task.result()
        assert [p.error.metadata["row"] for p in reply.predictions if p.error.code] == ["5", "200"]
        reply.ClearField("trace_id")
        return reply, turns

    (whole, few), (pieces, turns) = await predicted(300), await predicted(30)
    assert pieces == whole
    assert turns >= few + 18


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
        resources=ResourceSettings(keys=(tmp_path,)),
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


@pytest.mark.parametrize(("tenant", "marked"), [("bank", True), ("shop", False), ("other", False)])
async def test_the_rows_of_a_regulated_tenant_are_marked(tenant: str, marked: bool) -> None:
    got = await sent(None, {}, tenant=tenant)
    assert (REGULATED in got.columns) is marked
    if marked:
        assert got.columns[REGULATED].array.tolist() == [True] * 3


async def test_regulated_rows_share_no_message_with_others() -> None:
    """So that a router decides for a whole message whether it must be on the disk first."""
    codec: ColumnCodec[str, Any, Any] = ColumnCodec(lambda _: None)
    bank, shop, other = [
        codec.describe(BatchCall("double", await sent(None, {}, tenant=tenant)))[0]
        for tenant in ("bank", "shop", "other")
    ]
    assert bank != shop == other
