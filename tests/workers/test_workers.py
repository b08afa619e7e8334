"""Two ingresses on one port: both answer, and in all that a tenant may notice they are one."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

import grpc
import pytest

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.cli.installation import layout
from headrace.oip import open_inference_pb2 as oip
from tests.gauges import samples
from tests.live_access import same_tenants_after
from tests.system import HOME, OIP, PREDICT, System, headrace, poll, row_request

# The kernel deals connections out by a hash of their ports: with so many, each process gets some (all to one: 2⁻³⁹).
CONNECTIONS = 40
OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
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


def known(callers: Callers, key: str) -> None:
    """Waits until both workers know a key and its limits."""
    poll("every worker knows the key", lambda: REFUSED not in callers.each(key), within_s=SEEN_S)


def test_both_answer(system: System, callers: Callers) -> None:
    before = answered(system)
    assert set(callers.each()) == {OK}
    poll("both have answered", lambda: all((answered(system) - before)[w] for w in WORKERS))


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
