"""Where a client finds its callee (also a directory of sockets, which is followed), what it needs, and what it tells; and
what one caller chooses costs another nothing: its deadline, its rows, and how it is refused."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from google.protobuf.struct_pb2 import ListValue
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from headrace import hop
from headrace.hop.client import settings as client_settings
from headrace.hop.client.dial import Client
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import EXPLANATIONS, SERVER_CONCURRENCY, Limiter
from headrace.hop.metrics import ClientInstruments, MetricsObserver
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.resilience import resolve
from headrace.hop.testing import served
from tests.definitions import definition_of
from tests.libs.hop.hop_callee import DO, DO_ONCE, WORK, Callee, Item, WordCodec, fault_of, soon, words
from tests.services.waiting import until

Transport: TypeAlias = Literal["unix", "local"]
# The slightest failure opens a breaker, for as long as a test takes.
TOUCHY = {"min_calls": 1, "failure_ratio": 0.01, "open_s": 60.0, "max_open_s": 60.0}


class Servicer:
    async def Do(self, request: ListValue, call: hop.Call) -> ListValue:
        if list(request) == ["fault"]:
            raise hop.Fault(Code.UNAVAILABLE, Reason.REASON_DRAINING, "going")
        return request

    DoOnce = Do


DEFINITION = definition_of("work", hop.Service(WORK, Servicer()))


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("local", ("local",)),
        ("unix:/run/a", ("unix:/run/a",)),
        ("unix:/a,unix:/b", ("unix:/a", "unix:/b")),
        ("host:1, other:2", ("host:1", "other:2")),
    ],
)
def test_fixed_targets(text: str, addresses: tuple[str, ...]) -> None:
    assert resolve.parse(text).addresses == addresses


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "unix:",
        "host:0",
        "host:99999",
        "host:x",
        "dns:///name",
        "a:1,a:1",
        ":1",
        "unix-dir:run/sockets",
    ],
)
def test_unreadable_targets_are_refused_before_anything_starts(text: str) -> None:
    with pytest.raises(ValueError):
        resolve.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert resolve.parse(text)


async def test_dns_names_give_all_their_addresses() -> None:
    assert "ipv4:127.0.0.1:80" in await resolve.lookup(resolve.parse("dns:///localhost:80"))


async def test_resolution_is_repeated_and_a_failing_name_server_changes_nothing() -> None:
    answers: Iterator[OSError | tuple[str, ...]] = iter([OSError(), ("a",), OSError(), ("a", "b"), ("b",)])
    seen: list[tuple[str, ...]] = []

    async def look(target: resolve.Target) -> tuple[str, ...]:
        answer = next(answers, ("b",))
        if isinstance(answer, OSError):
            raise answer
        return answer

    resolver = resolve.Resolver(resolve.parse("dns:///x:1"), 0.01, seen.append, look)
    await until(lambda: len(seen) >= 4)
    await resolver.close()
    assert seen[:4] == [("a",), ("a", "b"), ("b",), ("b",)]


async def test_a_replica_that_leaves_the_set_finishes_its_calls(tmp_path: Path) -> None:
    async with Callee(tmp_path / "a") as leaving, Callee(tmp_path / "b") as staying:
        client = Client("work", client_settings.ClientRules(f"{leaving.target}"))
        do = client.unary(DO)
        slow = asyncio.create_task(do(words("sleep 0.3"), deadline=soon()))
        await asyncio.sleep(0.1)
        client.replicas.update([staying.target])
        assert list(await do(words("pid"), deadline=soon())) == [f"pid {staying.pid}"]
        assert list(await slow) == ["sleep 0.3"]
        client.replicas.update([])
        assert (await fault_of(do(words("x"), deadline=soon()))).reason == Reason.REASON_UNREACHABLE
        await client.close()


@pytest.mark.parametrize("transport", ["unix", "local"])
async def test_both_shapes_answer_and_fail_alike_and_count(transport: Transport) -> None:
    async with served(DEFINITION, {}, transport=transport) as harness:
        client = harness.client("work", retry={"attempts": 1})
        do, folded = client.unary(DO), client.coalesced(DO, WordCodec())
        assert list(await do(words("a"), deadline=soon())) == ["a"]
        assert await asyncio.gather(*(folded(Item("b")) for _ in range(3))) == ["b"] * 3
        fault = await fault_of(folded(Item("fault")))
        assert (fault.code, fault.reason, fault.message) == (
            Code.UNAVAILABLE,
            Reason.REASON_DRAINING,
            "going",
        )
        text = generate_latest(harness.runtime.telemetry.registry).decode()
        for line in (
            'headrace_hop_client_calls_total{callee="work",code="OK",method="Do"} 2.0',
            'headrace_hop_client_calls_total{callee="work",code="UNAVAILABLE",method="Do"} 1.0',
            'headrace_hop_client_seconds_count{callee="work",method="Do"} 3.0',
            'headrace_hop_waiting_rows{callee="work",method="Do"} 0.0',
            'headrace_hop_breaker_state{callee="work",replica="0"} 0.0',
            'headrace_hop_limit{callee="work",replica="0"} 32.0',
        ):
            assert line in text


async def test_labels_of_replicas_are_bounded() -> None:
    telemetry = Telemetry("router")
    instruments = telemetry.once(ClientInstruments)
    client = Client(
        "work",
        client_settings.ClientRules(",".join(f"unix:/nowhere/{n}" for n in range(200))),
        observer=MetricsObserver("work", instruments),
    )
    text = generate_latest(telemetry.registry).decode()
    assert len(re.findall(r"^headrace_hop_limit{", text, re.MULTILINE)) <= 65
    await client.close()
    await telemetry.close()


async def test_the_sockets_of_a_directory_are_followed(tmp_path: Path) -> None:
    seen: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()
    resolver = resolve.Resolver(resolve.parse(f"unix-dir:{tmp_path}"), 5.0, seen.put_nowait)

    async def until(expected: tuple[str, ...]) -> None:
        async with asyncio.timeout(60):
            while await seen.get() != expected:
                pass

    try:
        await until(())
        (tmp_path / "2.sock").touch()
        (tmp_path / "other").touch()
        await until((f"unix:{tmp_path}/2.sock",))
        (tmp_path / "1.sock").touch()
        await until((f"unix:{tmp_path}/1.sock", f"unix:{tmp_path}/2.sock"))
        (tmp_path / "2.sock").unlink()
        await until((f"unix:{tmp_path}/1.sock",))
    finally:
        await resolver.close()


async def test_a_call_finds_the_first_socket_before_the_directory_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As long as a loaded machine may take.
    monkeypatch.setattr(resolve, "_DIRECTORY_EVERY_S", 3600.0)
    async with served(DEFINITION) as harness:
        client = harness.client(target=f"unix-dir:{tmp_path}", resolve_every_s=3600.0)
        call = client.unary(DO)
        with pytest.raises(Fault) as nobody:
            await call(words("early"), deadline=soon())
        assert nobody.value.reason == Reason.REASON_UNREACHABLE
        (tmp_path / "1.sock").symlink_to(harness.target.removeprefix("unix:"))
        assert list(await call(words("now"), deadline=soon())) == ["now"]


class Refusing:
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
    async with served(definition_of("work", hop.Service(WORK, Refusing()))) as harness:
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
