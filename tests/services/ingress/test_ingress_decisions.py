"""A request is told of its own rows which arm answered them and why, whoever's rows shared the router's message."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from headrace.api.inference.v1 import inference_pb2
from headrace.api.router.v1 import router_pb2
from headrace.client.arrays import columns_result
from headrace.client.messages import predict_result
from headrace.columns import Batch, Column, Rows
from headrace.columns.batch_codec import BatchCall, BatchReply
from headrace.hop.client.dial import Client
from headrace.pipeline import parse
from services.ingress.clients import HopRouter
from services.ingress.documents.catalog import Entry
from services.ingress.inference import InferenceResult
from services.ingress.oip.response import Responses
from services.ingress.ports import Routed
from services.ingress.predict.response import write_columns, write_models, write_rows
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
        models=[router_pb2.ModelUse(stage="m", model="doubler", version="2", sha256="ff")],
    ),
]


class SharedMessage:
    """Stands for hop's client: each call gets its own rows, with the response that all share."""

    callee = "router"

    def __init__(self, decisions: list[router_pb2.Decision]) -> None:
        self.response = router_pb2.InferResponse(decisions=decisions)

    def coalesced(self, method: object, codec: object) -> Any:
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
    # The same list, so that what is written once of it need not be written again.
    assert both[0].decisions is both[1].decisions
    mixed = await one.infer("double", 0, batch([2, 0, 2]))
    assert [d.route for d in mixed.decisions] == ["live", "candidate"]
    assert mixed.decided == [1, 0, 1]
    assert [d.route for d in (await router(DECISIONS[:1]).infer("double", 0, batch(None))).decisions] == [
        "live"
    ]
    assert not (await router([]).infer("double", 0, batch(None))).decisions


async def test_oip_parameters_name_arm_release_and_rule() -> None:
    responses = Responses()
    alone = responses.write(await asked([1]), ["y"], "a").parameters
    assert {n: alone[n].string_param for n in ("arm", "rule")} == {"arm": "live", "rule": "staff"}
    assert (alone["release"].int64_param, alone["sticky"].bool_param) == (7, False)
    assert "decisions" not in alone
    reply = responses.write(await asked([2, 2]), ["y"], "b")
    assert (reply.model_version, reply.parameters["models"].string_param) == ("4", "doubler:2")
    assert (reply.parameters["arm"].string_param, reply.parameters["sticky"].bool_param) == (
        "candidate",
        True,
    )
    assert "rule" not in reply.parameters
    for index, expected in (([2, 0, 1], "2,0,1"), ([0, 1, 2], "0,1,2")):
        mixed = responses.write(await asked(index), ["y"], "c").parameters
        assert mixed["arm"].string_param == "live,live,candidate"
        assert mixed["rule"].string_param == ",staff,"
        assert mixed["decisions"].string_param == expected


async def test_responses_of_several_arms_keep_their_heads_apart() -> None:
    one, responses = router(), Responses()
    for _ in range(20):
        for index in (0, 2, 1):
            told = answer(await one.infer("double", 0, batch([index])))
            assert responses.write(told, ["y"], "a") == Responses().write(told, ["y"], "a")


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
