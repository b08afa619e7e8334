"""More calls than slots, of several tenants, over real sockets: who is refused, by what, and who is answered."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # has no stubs

from headrace.hop import testing
from headrace.state import tenants
from services.ingress.admission.admission_control import AdmissionControl, AdmissionRules
from tests.services.ingress.ingress_calls import infer
from tests.services.ingress.ingress_door import (
    FakeRouter,
    Folder,
    definition,
    infer_request,
    prepare,
    started,
)
from tests.services.ingress.ingress_keys import PEPPER
from tests.services.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
SLOTS = 10
SPECS: dict[str, dict[str, Any]] = {
    "greedy": {"priority": 1},
    "modest": {"priority": 1},
    "urgent": {"priority": 10},
    "single": {"priority": 10, "limits": {"concurrency": 1}},
}
OVERLOADED = ("RESOURCE_EXHAUSTED", "OVERLOADED", "admission")
QUOTA = ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "tenant_concurrency")
ANSWERED = ("OK", "", "")


def write_tenants(path: Path) -> dict[str, str]:
    """The tenants document; each tenant's key in clear text."""
    made = {name: tenants.new_key(PEPPER, created=datetime(2026, 1, 1, tzinfo=UTC)) for name in SPECS}
    specs = {
        name: tenants.TenantSpec(keys=(key,), pipelines=("*",), **SPECS[name])
        for name, (_, key) in made.items()
    }
    tenants.save(path, tenants.TenantsFile(tenants=specs))
    return {name: text for name, (text, _) in made.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["envoy", "grpc"])
async def crowded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Folder, FakeRouter, dict[str, str]]]:
    """A door of ten slots before a router that answers when it is told to."""
    router, path = FakeRouter(), tmp_path_factory.mktemp("crowded")
    slots = {"initial": SLOTS, "minimum": SLOTS, "maximum": SLOTS}
    async with testing.served(definition(router)) as harness:
        # Held calls must not run into the pipeline's deadline, however slow this machine is.
        folder = prepare(path, harness.target, mode=request.param, deadline_ms=60_000, admission=slots)
        keys = write_tenants(path / "tenants.yaml")
        async with started(folder):
            yield folder, router, keys


async def outcome(door: Folder, key: str) -> tuple[str, str, str]:
    """(code, reason, limiter) of one inference; of an error without details its message in place of the reason."""
    try:
        await infer(door, infer_request([[1, 2]], [1]), key=key, timeout=60)
    except grpc.aio.AioRpcError as error:
        trailing = dict(error.trailing_metadata() or ())
        info = error_details_pb2.ErrorInfo()
        if "grpc-status-details-bin" not in trailing:
            return error.code().name, error.details() or "", ""
        status = status_pb2.Status.FromString(cast("bytes", trailing["grpc-status-details-bin"]))
        assert status.details[0].Unpack(info)
        return error.code().name, info.reason, info.metadata["limiter"]
    return ANSWERED


class Crowd:
    """Calls that are sent while the router holds its answers, so that those with a slot keep it."""

    def __init__(self, door: Folder, keys: dict[str, str]) -> None:
        self._door, self._keys = door, keys
        self.calls: dict[str, list[asyncio.Task[tuple[str, str, str]]]] = {}

    async def send(self, tenant: str, count: int, refused: int) -> None:
        """Sends `count` calls at once; returns when `refused` of the tenant's are refused in all."""
        calls = self.calls.setdefault(tenant, [])
        calls += [asyncio.create_task(outcome(self._door, self._keys[tenant])) for _ in range(count)]
        await until(lambda: sum(call.done() for call in calls) >= refused)

    def refused(self) -> dict[str, Counter[tuple[str, str, str]]]:
        """What the refused calls of each tenant were told."""
        return {t: Counter(c.result() for c in calls if c.done()) for t, calls in self.calls.items()}

    async def outcomes(self) -> dict[str, Counter[tuple[str, str, str]]]:
        """What each tenant's calls came to in the end."""
        return {t: Counter(await asyncio.gather(*calls)) for t, calls in self.calls.items()}


def admitted_of(model: AdmissionControl, tenant: str, count: int) -> int:
    """How many of a tenant's calls admission control lets in, as its unit tests have it."""
    return sum(model.acquire(tenant, int(SPECS[tenant]["priority"])) for _ in range(count))


async def test_a_refusal_names_its_limiter_and_the_others_are_answered(
    crowded: tuple[Folder, FakeRouter, dict[str, str]],
) -> None:
    door, router, keys = crowded
    model = AdmissionControl(AdmissionRules(SLOTS, SLOTS, SLOTS, 0.4), lambda: 0.0)
    sent = {"greedy": 14, "modest": 5, "urgent": 5}
    expected: dict[str, Counter[tuple[str, str, str]]] = {}
    crowd = Crowd(door, keys)
    router.held = True
    for tenant, count in sent.items():
        admitted = admitted_of(model, tenant, count)
        # Somebody of each tenant has a slot, and nobody has all: what is shown below says something.
        assert 0 < admitted < count
        expected[tenant] = Counter({OVERLOADED: count - admitted})
        await crowd.send(tenant, count, refused=count - admitted)
    assert crowd.refused() == expected
    router.release()
    for tenant, count in sent.items():
        expected[tenant][ANSWERED] = count - expected[tenant][OVERLOADED]
    assert await crowd.outcomes() == expected


async def test_a_tenants_own_limit_refuses_while_there_are_slots(
    crowded: tuple[Folder, FakeRouter, dict[str, str]],
) -> None:
    door, router, keys = crowded
    crowd = Crowd(door, keys)
    router.held = True
    await crowd.send("single", 4, refused=3)
    await crowd.send("urgent", 2, refused=0)
    assert crowd.refused()["single"] == Counter({QUOTA: 3})
    router.release()
    assert await crowd.outcomes() == {
        "single": Counter({QUOTA: 3, ANSWERED: 1}),
        "urgent": Counter({ANSWERED: 2}),
    }
    # The slots are free again: as many calls as anybody may have are answered.
    again = Crowd(door, keys)
    await again.send("greedy", 4, refused=0)
    assert await again.outcomes() == {"greedy": Counter({ANSWERED: 4})}
