"""A call to every replica: each answers for itself. And lengthy calls, which say nothing of others and hold up no later ones."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue

from headrace import hop
from headrace.hop import config
from headrace.hop.batching.lane_times import Outlasting
from headrace.hop.call import Method, unary
from headrace.hop.client import settings as rules
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from tests.definitions import definition_of
from tests.libs.hop.hop_callee import DO, WORK, Callee, Item, WordCodec, fault_of, words
from tests.libs.hop.test_hop_client_faults import client_of
from tests.services.waiting import until

LENGTHY: Method[ListValue, ListValue] = unary(
    ListValue, ListValue, idempotent=False, lengthy=True, name="DoOnce", file=WORK.file
)
# The slightest cause opens it.
TOUCHY = {
    "min_calls": 1,
    "slow_s": 0.02,
    "failure_ratio": 0.1,
    "open_s": 30.0,
    "max_open_s": 30.0,
}


class Servicer:
    """Answers its name; `sleep` and `sleep long` are slow, `refuse NAME` fails where the name is this one's, `fail` always."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def Do(self, request: ListValue, call: hop.Call) -> ListValue:
        [word] = request
        if word in ("sleep", "sleep long"):
            await asyncio.sleep(0.1 if word == "sleep" else 1)
        if word == "fail" or word == f"refuse {self._name}":
            raise Fault(Code.INTERNAL, Reason.REASON_INTERNAL, f"{self._name} refuses")
        return words(self._name)

    DoOnce = Do


def definition(name: str) -> hop.Definition[config.ServiceSettings]:
    return definition_of("work", hop.Service(WORK, Servicer(name)))


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Harness, str]]:
    """One of two replicas, and the target that means both."""
    async with served(definition("a")) as first, served(definition("b")) as second:
        yield first, f"{first.target},{second.target}"


def told(answers: Sequence[ListValue | Fault]) -> list[str]:
    return sorted(a.message if isinstance(a, Fault) else str(a[0]) for a in answers)


async def test_every_replica_answers_for_itself(pair: tuple[Harness, str]) -> None:
    harness, target = pair
    client = harness.client(target=target)
    each = client.each(LENGTHY)
    within = time.monotonic() + 60
    assert told(await each(words("hello"), deadline=within)) == ["a", "b"]
    assert told(await each(words("refuse b"), deadline=within)) == ["a", "b refuses"]
    await client.close()
    with pytest.raises(Fault) as closed:
        await each(words("hello"), deadline=within)
    assert closed.value.reason == Reason.REASON_DRAINING


async def test_no_replica_at_all_is_unavailable(pair: tuple[Harness, str]) -> None:
    harness, _ = pair
    client = harness.client(target="unix-dir:/nowhere/at/all")
    fault = await fault_of(client.each(LENGTHY)(words("hello"), deadline=time.monotonic() + 1))
    assert fault.code is Code.UNAVAILABLE


@pytest.mark.parametrize("word", ["sleep", "fail"])
async def test_a_lengthy_call_opens_no_breaker_and_another_does(pair: tuple[Harness, str], word: str) -> None:
    harness, _ = pair
    client = harness.client(breaker=TOUCHY)
    lengthy, plain = client.unary(LENGTHY), client.unary(DO)

    async def ask(call: Any) -> str:
        try:
            reply = await call(words(word), deadline=time.monotonic() + 60)
        except Fault as fault:
            return hop.errors.reason_name(fault.reason)
        return str(reply[0])

    usual = {"sleep": "a", "fail": "INTERNAL"}[word]
    assert [await ask(lengthy) for _ in range(3)] == [usual] * 3
    await ask(plain)
    await ask(plain)
    assert await ask(plain) == "BREAKER_OPEN"
    # Another method's failures are not its own.
    assert await ask(lengthy) == usual


async def test_lengthy_calls_take_no_place_at_the_limiter(pair: tuple[Harness, str]) -> None:
    harness, _ = pair
    client = harness.client(limiter={"initial": 1, "minimum": 1, "maximum": 1})
    lengthy, plain = client.unary(LENGTHY), client.unary(DO)
    within = time.monotonic() + 5
    under_way = [asyncio.create_task(lengthy(words("sleep long"), deadline=within)) for _ in range(4)]
    await asyncio.sleep(0)
    assert told([await plain(words("hello"), deadline=within)]) == ["a"]
    assert not any(task.done() for task in under_way)
    assert told(await asyncio.gather(*under_way)) == ["a"] * 4


MOST = 16


def lane(*took: float) -> Outlasting:
    """A lane whose calls took so many seconds."""
    found = Outlasting(MOST)
    for seconds in took:
        found.ended(found.began(0.0), seconds)
    return found


def test_without_an_ended_call_nothing_is_unusual() -> None:
    new = lane()
    new.began(0.0)
    assert new.due() is None
    assert new.pass_over(100.0) == 0


@pytest.mark.parametrize(
    ("took", "due"),
    [([0.01], 1.04), ([0.0001], 1.005), ([0.002, *[0.05] * 200], 1.2)],
    ids=["four times the usual", "a few milliseconds", "what is usual soon"],
)
def test_when_a_call_outlasts_the_others(took: list[float], due: float) -> None:
    usual = lane(*took)
    call = usual.began(1.0)
    assert usual.due() == pytest.approx(due)
    assert usual.pass_over(due - 0.001) == 0
    assert usual.pass_over(due + 0.001) == 1
    assert call.outlasts
    assert usual.due() is None


def test_one_quick_call_in_ten_keeps_the_usual_low() -> None:
    mixed = lane(*([0.002] + [0.2] * 9) * 20)
    mixed.began(1.0)
    due = mixed.due()
    assert due is not None
    assert due < 1.012


def test_so_many_and_no_more_are_passed_over_and_each_gives_its_place_back() -> None:
    hung = lane(0.001)
    calls = [hung.began(1.0) for _ in range(MOST + 5)]
    assert hung.pass_over(2.0) == MOST
    assert hung.due() is None
    hung.ended(calls[0], 2.0)
    assert hung.pass_over(2.0) == 1
    assert [call.outlasts for call in calls] == [True] * (MOST + 1) + [False] * 4


async def test_items_behind_a_call_that_hangs_leave_after_a_while(tmp_path: Path) -> None:
    window = rules.CoalesceRules(window=1)
    async with Callee(tmp_path / "s") as callee, client_of(callee, coalesce=window) as client:
        codec = WordCodec()
        do = client.coalesced(DO, codec)
        assert await do(Item("usual")) == "usual"
        hangs = asyncio.create_task(do(Item("sleep 30")))
        await until(lambda: ["sleep 30"] in codec.merged)
        assert await asyncio.gather(*(do(Item(f"{n}")) for n in range(5))) == [f"{n}" for n in range(5)]
        # While it hangs, later ones leave one call after the other as ever.
        assert await do(Item("later")) == "later"
        assert not hangs.done()
        assert codec.merged == [["usual"], ["sleep 30"], [f"{n}" for n in range(5)], ["later"]]
        hangs.cancel()
