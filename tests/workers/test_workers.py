"""Two ingresses on one port: both answer, and in all that a tenant may notice they are one."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Self

import grpc
import pytest

from headrace.access import changes
from headrace.access.specs import QuotaSpec, TenantSpec, new_key
from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.cli.installation import layout
from headrace.cli.supervision import control_place
from headrace.oip import open_inference_pb2 as oip
from tests.gauges import samples
from tests.live_access import BY, same_tenants_after
from tests.system import HOME, OIP, PREDICT, System, headrace, poll, row_request

# The kernel deals connections out by a hash of their ports: with so many, each process gets some (all to one: 2⁻³⁹).
CONNECTIONS = 40
OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
# The doors read the tenants again every second, and look then what the other counts.
LOOK_S = 1.0
SEEN_S = 60.0
WORKERS = ("ingress", "ingress.2")


class Callers:
    """As many callers as connections: none shares one with another."""

    def __init__(self, system: System, count: int = CONNECTIONS) -> None:
        self._system = system
        self._stack = ExitStack()
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        channels = [
            self._stack.enter_context(grpc.insecure_channel(system.endpoints["grpc"], options=own))
            for _ in range(count)
        ]
        self._calls = [
            c.unary_unary(PREDICT, pb.PredictRequest.SerializeToString, pb.PredictResponse.FromString)
            for c in channels
        ]
        self._threads = self._stack.enter_context(ThreadPoolExecutor(count))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def each(self, key: str | None = None) -> list[grpc.StatusCode]:
        """One call on each connection, all at once; how they end."""
        request, auth = row_request(self._system.rows[0]), self._system.auth(key)

        def one(call: grpc.UnaryUnaryMultiCallable) -> grpc.StatusCode:
            try:
                call(request, timeout=30, metadata=auth)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code
            return OK

        return list(self._threads.map(one, self._calls))


@pytest.fixture
def callers(system: System) -> Iterator[Callers]:
    with Callers(system) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _same_tenants_after(system: System) -> Iterator[None]:
    with same_tenants_after(layout.of(HOME)):
        yield


def answered(system: System) -> Counter[str]:
    """Requests by worker so far."""
    found = {w: samples(system, "headrace_ingress_requests_total", [w]) for w in WORKERS}
    return Counter({w: int(sum(value for _, value in series)) for w, series in found.items()})


def limited(tenant: str, **limits: float) -> str:
    """A key of a new tenant with such limits, written at once: no worker ever knows the key without them."""
    key, stored = new_key(created=datetime.now(UTC))
    spec = TenantSpec(pipelines=("flights",), limits=QuotaSpec.model_validate(limits))
    with control_place.records(layout.of(HOME)) as records:
        changes.add_key(records, tenant, stored, lambda _: spec, BY)
    return key


def known(callers: Callers, key: str) -> None:
    """Waits until both workers know a key and its limits."""
    poll("every worker knows the key", lambda: REFUSED not in callers.each(key), within_s=SEEN_S)


def test_both_answer(system: System, callers: Callers) -> None:
    before = answered(system)
    assert set(callers.each()) == {OK}
    poll("both have answered", lambda: all((answered(system) - before)[w] for w in WORKERS))


def test_a_key_is_revoked_in_both(system: System, callers: Callers) -> None:
    key = headrace("keys", "create", "leaver", "--pipeline", "flights").strip()
    poll("both know it", lambda: set(callers.each(key)) == {OK}, within_s=SEEN_S)
    headrace("keys", "revoke", "leaver", key.split("_")[1])
    poll("both refuse it", lambda: set(callers.each(key)) == {REFUSED}, within_s=SEEN_S)


def test_a_rate_is_one_for_both(system: System, callers: Callers) -> None:
    # A rate that a busy machine can exceed, and a burst that is not over between two rounds of calls.
    rate, burst = 8.0, 40.0
    key = limited("eager", rows_per_s=rate, rows_burst=burst)
    known(callers, key)
    # Until they have looked, the two know nothing of each other's first burst; then each owes what the other gave away.
    settled = time.monotonic() + 2 * LOOK_S + burst / rate
    while time.monotonic() < settled:
        callers.each(key)
    began, passed, asked = time.monotonic(), 0, 0
    while time.monotonic() - began < 10:
        codes = callers.each(key)
        assert set(codes) <= {OK, EXHAUSTED}
        passed, asked = passed + codes.count(OK), asked + len(codes)
    took = time.monotonic() - began
    assert asked > 1.5 * rate * took, "too few calls to tell"
    # Counted apart, the two would let twice the rate through. Either may have a token before it hears of the other.
    assert 0.8 * rate * took <= passed <= 1.25 * rate * took + burst / 2


def test_one_connection_gets_the_whole_rate(system: System, callers: Callers) -> None:
    key = limited("single", rows_per_s=5, rows_burst=20)
    known(callers, key)
    with Callers(system, 1) as one:
        poll("a full bucket again", lambda: _full(one, key), within_s=60)


def _full(one: Callers, key: str) -> bool:
    time.sleep(4.5)  # 20 tokens at 5 a second, and some
    return sum(one.each(key) == [OK] for _ in range(20)) == 20


def test_a_killed_worker_leaves_the_others_callers_alone(system: System) -> None:
    pid = system.pid("ingress.2")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    poll("gone", lambda: system.pid("ingress.2") != pid)
    with Callers(system) as fresh:
        # Who connects now finds a door that is open.
        assert set(fresh.each()) == {OK}
    poll("back", lambda: system.status()["services"]["ingress.2"]["state"] == "ready", within_s=60)


def test_a_model_is_never_loaded_in_one_of_two(system: System, callers: Callers) -> None:
    if system.shape == "apart":
        pytest.skip("apart, all workers have the same executors")
    key = headrace("keys", "create", "ops", "--scope", "operate").strip()
    known(callers, key)
    assert {load(system, key) for _ in range(5)} == {grpc.StatusCode.FAILED_PRECONDITION}


def load(system: System, key: str) -> grpc.StatusCode:
    """How a request to load the light model ends."""
    with system.channel() as channel:
        call = channel.unary_unary(
            OIP + "RepositoryModelLoad",
            oip.RepositoryModelLoadRequest.SerializeToString,
            oip.RepositoryModelLoadResponse.FromString,
        )
        try:
            call(
                oip.RepositoryModelLoadRequest(model_name="flights_light"),
                timeout=30,
                metadata=system.auth(key),
            )
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return OK
