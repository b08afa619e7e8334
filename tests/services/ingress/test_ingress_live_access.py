"""Doors that follow a real control, over real sockets: what changes there holds at each door, and hurts nobody else."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import pytest

from headrace.access import changes
from headrace.access.specs import QuotaSpec, TenantSpec, new_key
from headrace.hop import testing
from headrace.releases.of_records import RecordReleases
from tests.first_release import release_first
from tests.live_access import BY, CREATED, Control, control
from tests.services.ingress.ingress_calls import http, infer
from tests.services.ingress.ingress_door import (
    DoorProcess,
    FakeRouter,
    Folder,
    definition,
    double,
    infer_request,
    prepare,
    started,
)
from tests.services.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
REQUEST = infer_request([[1, 2]], [1])
ALL = TenantSpec(pipelines=("*",))


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Control]:
    with released(tmp_path) as found:
        yield found


@contextmanager
def released(folder: Path) -> Iterator[Control]:
    """A control at which `double` is live."""
    folder.chmod(0o700)
    with control(folder) as found:
        release_first(RecordReleases(found.records), double(60_000))
        yield found


@asynccontextmanager
async def doors(live: Control, count: int, router: FakeRouter | None = None) -> AsyncIterator[list[Folder]]:
    async with testing.served(definition(router or FakeRouter())) as harness, AsyncExitStack() as stack:
        found = []
        for number in range(count):
            path = live.folder / f"door{number}"
            path.mkdir()
            found.append(prepare(path, harness.target, **live.door()))
        await asyncio.gather(*(stack.enter_async_context(started(folder)) for folder in found))
        yield found


async def answer(door: Folder, key: str) -> str:
    """The code of one inference."""
    try:
        await infer(door, REQUEST, key=key, timeout=60)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def until_answer(door: Folder, key: str, wanted: str) -> None:
    async def is_wanted() -> bool:
        return await answer(door, key) == wanted

    await until(is_wanted)


def with_limits(**limits: float) -> Callable[[TenantSpec | None], TenantSpec]:
    return lambda spec: (spec or ALL).model_copy(update={"limits": QuotaSpec(**limits)})  # type: ignore[arg-type]  # by name


async def test_a_revoked_key_is_refused_at_each_door_and_its_tenants_others_are_not(live: Control) -> None:
    text = live.put({"acme": ALL, "other": ALL})
    async with doors(live, 3) as found:
        second, key = new_key(created=CREATED)
        changes.add_key(live.records, "acme", key, lambda spec: spec or ALL, BY)
        for door in found:
            assert await answer(door, text["acme"]) == "OK"
            await until_answer(door, second, "OK")
        changes.revoke_key(live.records, "acme", text["acme"].split("_")[1], BY)
        for door in found:
            await until_answer(door, text["acme"], "UNAUTHENTICATED")
            assert [await answer(door, k) for k in (second, text["other"])] == ["OK", "OK"]
        changes.remove_tenant(live.records, "acme", BY)
        for door in found:
            await until_answer(door, second, "UNAUTHENTICATED")
            assert await answer(door, text["other"]) == "OK"


async def test_calls_in_flight_end_well_while_their_tenant_changes(live: Control) -> None:
    router = FakeRouter()
    text = live.put({"acme": ALL})
    async with doors(live, 1, router) as [door]:
        router.held = True
        calls = [asyncio.create_task(answer(door, text["acme"])) for _ in range(4)]
        await until(lambda: len(router.calls) > 0)
        changes.edit_tenant(live.records, "acme", with_limits(concurrency=1), BY)
        changes.edit_tenant(live.records, "acme", with_limits(concurrency=9), BY)
        changes.remove_tenant(live.records, "acme", BY)

        async def is_refused() -> bool:
            # Not by an inference: that would be held, too.
            return (await http(door, "/v2/models/double", None, key=text["acme"]))[0] == 401

        await until(is_refused)
        assert not any(call.done() for call in calls)
        router.release()
        assert await asyncio.gather(*calls) == ["OK"] * 4


async def test_a_door_that_has_nothing_is_not_ready_and_becomes_so(tmp_path: Path) -> None:
    with released(tmp_path) as live:
        text = live.put({"acme": ALL})
        live.stop()
        async with testing.served(definition(FakeRouter())) as harness:
            (path := tmp_path / "door").mkdir()
            door = prepare(path, harness.target, **live.door())
            process = DoorProcess(door)
            try:
                await process.ready(door.admin)
                assert await answer(door, text["acme"]) == "UNAVAILABLE"
                live.start()
                await process.ready(door.grpc)
                assert await answer(door, text["acme"]) == "OK"
                live.stop()
                # What it serves first is written a moment later; it starts by its disk then.
                await until(lambda: [*(live.folder / "resources").rglob("manifest")])
                process.kill()
                process = DoorProcess(door)
                await process.ready(door.grpc)
                assert await answer(door, text["acme"]) == "OK"
                assert await answer(door, "hr_made_up") == "UNAUTHENTICATED"
            finally:
                process.kill()
