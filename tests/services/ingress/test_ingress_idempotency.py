"""Calls with an idempotency key: what runs, what is replayed, what is refused."""

import asyncio
import json
import struct
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.columns import RowError
from headrace.hop.config import ConfigError
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.idempotency.calls import IdempotentCalls
from services.ingress.idempotency.outcome import Outcome, fingerprint_of, read_key
from services.ingress.idempotency.settings import Idempotency
from services.ingress.idempotency.sqlite import SqliteKeys
from services.ingress.idempotency.store import StoreUnreachableError
from services.ingress.request_context import RequestContext, RequestTrace
from tests.services.monitoring.monitoring_outcomes import Log

# JSON of anything but a text at `request_id`.
_VALUES = st.none() | st.integers() | st.lists(st.text(max_size=3), max_size=2)
JUNK = (_VALUES | st.dictionaries(st.sampled_from(["code", "reason", "request_id"]), _VALUES)).map(
    lambda value: json.dumps(value).encode()
)
KEY = b"key-1"
LONG_AND_ODD = ["x" * 255, '"a key" ~!']
OURS = Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "down")
THEIRS = Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "x is wrong", metadata={"input": "x"})


class Store(SqliteKeys):
    """That can fail. Its clock may be set on by a test."""

    def __init__(self, rules: Idempotency) -> None:
        self.ahead = 0.0
        super().__init__(None, rules, lambda: time.monotonic() + self.ahead)
        self.down: frozenset[str] = frozenset()
        self.renewals = self.failures = 0

    async def claim(self, *arguments: Any) -> Any:
        return await self._or_down("claim", super().claim(*arguments))

    async def commit(self, *arguments: Any) -> Any:
        return await self._or_down("commit", super().commit(*arguments))

    async def renew(self, *arguments: Any) -> Any:
        self.renewals += 1
        return await self._or_down("renew", super().renew(*arguments))

    async def _or_down(self, name: str, done: Any) -> Any:
        if name == "commit" and self.failures:
            self.failures -= 1
            done.close()
            raise StoreUnreachableError("busy")
        if name in self.down:
            done.close()
            raise StoreUnreachableError("gone")
        return await done


class Door:
    """Runs a prediction that counts how often it ran."""

    def __init__(self, store: Store | None = None, lease_s: float = 30.0) -> None:
        self.store = store or Store(Idempotency(lease_s=lease_s))
        self.log = Log()
        self.calls = IdempotentCalls(self.store, self.log, lease_s, time.monotonic)
        self.ran = 0
        self.gate: asyncio.Event | None = None
        self.fault: Fault | None = None
        self.errors: dict[int, Any] = {}

    def context(self, request_id: str, key: bytes = KEY, budget_s: float = 20.0) -> RequestContext:
        now = time.monotonic()
        made = RequestContext("Predict", {}, now, RequestTrace("", "", sampled=False))
        made.deadline, made.request_id = now + budget_s, request_id
        made.credential = SimpleNamespace(tenant=SimpleNamespace(name="t"))  # type: ignore[assignment]  # only its name is read
        made.idempotency_key = key
        return made

    async def refusal(self, request_id: str, **options: Any) -> Fault:
        with pytest.raises(Fault) as error:
            await self.predict(request_id, **options)
        return error.value

    async def predict(
        self, request_id: str, row: str = "a", **options: Any
    ) -> tuple[pb.PredictResponse, str]:
        """The reply, and the request whose outcome it is."""
        context = self.context(request_id, **options)
        request = pb.PredictRequest(pipeline="p", request_id=request_id)
        request.rows.add()["word"] = row

        async def run() -> pb.PredictResponse:
            self.ran += 1
            number, fault = self.ran, self.fault
            if self.gate is not None:
                await self.gate.wait()
            if fault is not None:
                raise fault.copy()
            context.result = SimpleNamespace(batch=SimpleNamespace(errors=self.errors))  # type: ignore[assignment]  # likewise
            return pb.PredictResponse(request_id=context.request_id, version=number)

        try:
            reply = await self.calls.once(context, request, 1000.0, pb.PredictResponse, run)
        finally:
            self.original = context.original_request_id
        return reply, context.original_request_id


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, "late"),
        Fault(Code.RESOURCE_EXHAUSTED, Reason.REASON_QUERY_BUDGET_EXCEEDED, "tomorrow again"),
        Fault(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, "no weather"),
        Fault(Code.INTERNAL, Reason.REASON_INTERNAL, "a bug"),
        OURS,
    ],
    ids=lambda fault: fault.code.name,
)
async def test_what_another_moment_may_change_is_not_stored(fault: Fault) -> None:
    door = Door()
    door.fault = fault
    for request_id in ("r1", "r2"):
        await door.refusal(request_id)
    assert door.ran == 2


async def test_an_answer_with_rows_that_we_failed_is_not_kept() -> None:
    door = Door()
    door.errors = {0: RowError.of(OURS)}
    await door.predict("r1")
    door.errors = {0: RowError.of(THEIRS)}
    await door.predict("r2")
    assert (await door.predict("r3"))[1] == "r2"
    assert door.ran == 2


async def test_who_has_no_time_to_wait_is_told_so() -> None:
    door = Door()
    door.gate = asyncio.Event()
    first = asyncio.create_task(door.predict("r1"))
    await asyncio.sleep(0)
    fault = await door.refusal("r2", budget_s=0.05)
    assert (fault.code, fault.reason) == (Code.ABORTED, Reason.REASON_IDEMPOTENCY_KEY_IN_USE)
    door.gate.set()
    await first


async def test_when_the_first_fails_or_goes_away_one_of_those_who_wait_runs() -> None:
    door = Door()
    door.gate, door.fault = asyncio.Event(), OURS
    first = asyncio.create_task(door.predict("r1"))
    await asyncio.sleep(0)
    door.fault = None
    gone = asyncio.create_task(door.predict("r2"))
    third = asyncio.create_task(door.predict("r3"))
    await asyncio.sleep(0)
    door.gate.set()
    with pytest.raises(Fault):
        await first
    assert (await gone)[0].request_id == (await third)[0].request_id
    assert door.ran == 2

    door.gate = asyncio.Event()
    leaving = asyncio.create_task(door.predict("r4", key=b"key-2"))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    door.gate.set()
    assert (await door.predict("r5", key=b"key-2"))[1] == ""


async def test_a_lease_is_renewed_while_the_call_runs() -> None:
    # The store's own lease does not end, however late a renewal comes.
    door = Door(Store(Idempotency(lease_s=300.0)), lease_s=0.03)
    door.gate = asyncio.Event()
    first = asyncio.create_task(door.predict("r1"))
    while door.store.renewals < 5:
        await asyncio.sleep(0.005)
    door.gate.set()
    await first
    seen = door.store.renewals
    assert (await door.predict("r2"))[1] == "r1"
    assert door.store.renewals - seen <= 1


async def test_whose_lease_has_ended_answers_with_what_the_other_committed() -> None:
    store = Store(Idempotency(lease_s=30.0))
    slow, quick = Door(store), Door(store)
    slow.gate = asyncio.Event()
    first = asyncio.create_task(slow.predict("r1"))
    await asyncio.sleep(0)
    store.ahead = 31.0  # the process stood still for so long
    await quick.predict("r2")
    slow.gate.set()
    reply, original = await first
    assert (reply.request_id, original) == ("r2", "r2")
    assert (slow.ran, quick.ran) == (1, 1)


async def test_without_its_store_nothing_runs() -> None:
    door = Door()
    door.store.down = frozenset({"claim"})
    for request_id in ("r1", "r2"):
        fault = await door.refusal(request_id)
        assert (fault.code, fault.reason) == (Code.UNAVAILABLE, Reason.REASON_IDEMPOTENCY_UNAVAILABLE)
    assert door.ran == 0
    door.store.down = frozenset()
    await door.predict("r3")
    await door.predict("r4")
    # Told once, and once more when it is over.
    assert door.log.events == [
        "calls with an idempotency key are refused",
        "idempotency keys can be looked up again",
    ]


async def test_what_the_store_cannot_keep_is_answered_all_the_same() -> None:
    door = Door()
    door.store.down = frozenset({"commit"})
    assert (await door.predict("r1"))[0].request_id == "r1"
    assert door.log.events == ["the outcome of an idempotent call is not kept"]


async def test_a_commit_that_fails_once_is_tried_again() -> None:
    door = Door()
    door.store.failures = 2
    await door.predict("r1")
    assert (await door.predict("r2"))[1] == "r1"
    assert (door.ran, door.log.events) == (1, [])


async def test_a_tenant_with_too_many_keys_is_told_by_the_limiter() -> None:
    door = Door(Store(Idempotency(max_keys=1)))
    await door.predict("r1")
    fault = await door.refusal("r2", key=b"key-2")
    assert (fault.code, fault.reason) == (Code.RESOURCE_EXHAUSTED, Reason.REASON_IDEMPOTENCY_KEYS_FULL)
    assert fault.metadata == {"limiter": "idempotency_keys"}
    assert (await door.predict("r3"))[1] == "r1"


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"a\tb", b"\xc3\xa9", b"a\n"])
def test_a_key_that_is_none_is_refused(key: bytes) -> None:
    with pytest.raises(Fault) as error:
        read_key(key)
    assert error.value.metadata == {"field": "idempotency-key"}
    assert [read_key(taken.encode()) for taken in LONG_AND_ODD] == LONG_AND_ODD


def test_parameters_are_all_that_a_call_says_but_its_identity() -> None:
    def of(method: str = "Predict", **fields: Any) -> bytes:
        request = pb.PredictRequest(**{"pipeline": "p", "request_id": "r", **fields})
        row = request.rows.add()
        row["a"] = 1.0
        return fingerprint_of(method, request)

    assert of() == of(request_id="other") == of()
    assert len({of(), of(version=2), of(pipeline="q"), of(priority=3), of(method="ModelInfer")}) == 5
    forward, backward = pb.PredictRequest(), pb.PredictRequest()
    for request, names in ((forward, "abcdefgh"), (backward, "hgfedcba")):
        row = request.rows.add()
        for name in names:
            row[name] = 1.0
    assert fingerprint_of("m", forward) == fingerprint_of("m", backward)


def test_keys_have_one_store() -> None:
    with pytest.raises(ValidationError, match="either `file` or `redis`"):
        Idempotency(file=Path("keys"), redis="redis://here")
    with pytest.raises(ConfigError, match="redis"):
        Idempotency(redis="http://nowhere").store(time.monotonic, time.time)


@given(st.binary(max_size=60) | st.builds(lambda t: struct.pack("<I", len(t)) + t, JUNK))
@example(b"")
@example(b"\x05\0\0\0{}")
@example(b"\x02\0\0\0{}")
def test_what_is_no_outcome_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        Outcome.of_bytes(data)


async def test_an_outcome_that_cannot_be_read_is_refused_and_never_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door = Door()
    monkeypatch.setattr(Outcome, "to_bytes", lambda _: b"of a later version")
    await door.predict("first")
    for _ in range(2):
        with pytest.raises(Fault, match="can't be read, so nothing was done") as refused:
            await door.predict("again")
        assert (refused.value.code, refused.value.reason) == (
            Code.UNAVAILABLE,
            Reason.REASON_IDEMPOTENCY_UNAVAILABLE,
        )
    assert door.ran == 1
