"""What one caller chooses costs another nothing: its deadline, its rows, and how it is refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.protobuf.struct_pb2 import ListValue

from headrace import hop
from headrace.hop.client.dial import Client
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import EXPLANATIONS, SERVER_CONCURRENCY, Limiter
from headrace.hop.testing import served
from tests.definitions import definition_of
from tests.libs.hop.hop_callee import DO, DO_ONCE, WORK, soon, words

# The slightest failure opens a breaker, for as long as a test takes.
TOUCHY = {"min_calls": 1, "failure_ratio": 0.01, "open_s": 60.0, "max_open_s": 60.0}


class Servicer:
    """`hang` never answers, `explanations` and `server` refuse by that limiter, `behind` fails as another service did."""

    async def Do(self, request: ListValue, call: hop.Call) -> ListValue:
        word = request[0]
        if word == "hang":
            await asyncio.Event().wait()
        refusing: Limiter | None = {"explanations": EXPLANATIONS, "server": SERVER_CONCURRENCY}.get(str(word))
        if refusing is not None:
            raise refusing.refusal("full")
        if word == "behind":
            raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "away", metadata={"callee": "another"})
        return request

    DoOnce = Do


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with served(definition_of("work", hop.Service(WORK, Servicer()))) as harness:
        yield harness.client(breaker=TOUCHY)


async def reason(client: Client, word: str, within: float = 60.0) -> str:
    try:
        await client.unary(DO)(words(word), deadline=soon(within))
    except Fault as fault:
        return hop.errors.reason_name(fault.reason)
    return ""


@pytest.mark.parametrize("known", [True, False], ids=["usual time known", "nothing known"])
async def test_a_hurried_caller_closes_the_door_for_nobody(client: Client, known: bool) -> None:
    if known:
        assert await reason(client, "quick") == ""
    for _ in range(15):
        assert await reason(client, "hang", within=0.1) == "DEADLINE_PASSED"
    for method in (DO, DO_ONCE):
        assert await client.unary(method)(words("quick"), deadline=soon()) == words("quick")


async def test_what_failed_behind_the_callee_does_not_count_against_it(client: Client) -> None:
    assert await reason(client, "behind") == "UNREACHABLE"
    assert await reason(client, "quick") == ""


@pytest.mark.parametrize(("word", "shrinks"), [("explanations", False), ("server", True)])
async def test_only_refusals_for_the_callees_own_load_lower_its_limit(
    client: Client, word: str, shrinks: bool
) -> None:
    limiter = client.replicas.all[0].guard(DO.name).limiter
    before = limiter.limit
    for _ in range(5):
        assert await reason(client, word) == "OVERLOADED"
    assert (limiter.limit < before) == shrinks


async def test_many_hurried_callers_lower_no_limit(client: Client) -> None:
    assert await reason(client, "quick") == ""
    limiter = client.replicas.all[0].guard(DO.name).limiter
    before = limiter.limit
    hurried = [reason(client, "hang", within=0.1) for _ in range(before // 2 - 1)]
    assert set(await asyncio.gather(*hurried)) == {"DEADLINE_PASSED"}
    assert limiter.limit == before
