"""Quotas of several processes of one machine: exact at once, whoever dies, and whatever the disk does."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.hop.errors import Fault
from tests.services.ingress.sharing_doors import Sharer, introduce, tenant

_KILLED = """
import asyncio, sys, pathlib
from tests.services.ingress.sharing_doors import Sharer, introduce, tenant
door = Sharer(pathlib.Path(sys.argv[1]), [0.0])
asyncio.run(introduce([door]))
print(door.hold(tenant(concurrency=2)), door.hold(tenant(concurrency=2)), flush=True)
sys.stdin.read()
"""


async def workers(folder: Path, count: int, now: list[float]) -> list[Sharer]:
    made = [Sharer(folder, now) for _ in range(count)]
    await introduce(made)
    return made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    rate=st.floats(1, 1000),
    burst=st.floats(1, 50),
    steps=st.lists(st.tuples(st.floats(0, 0.25), st.integers(0, 2)), min_size=1, max_size=150),
)
async def test_all_pass_at_most_what_one_would(
    tmp_path_factory: pytest.TempPathFactory, rate: float, burst: float, steps: list[tuple[float, int]]
) -> None:
    now, who = [0.0], tenant(rows_per_s=rate, rows_burst=burst)
    made = await workers(tmp_path_factory.mktemp("quotas"), 3, now)
    passed = 0
    for worker in made:
        passed += worker.passes(who)  # each knows the tenant from now on
        for other in made:
            await other.refresh()
    assert passed == len(made)
    for step, index in steps:
        now[0] += step
        passed += made[index].passes(who)
        for worker in made:
            await worker.refresh()
        # Each may have let one through before it heard of the others.
        assert passed <= burst + rate * now[0] + len(made) + 1e-6
    for worker in made:
        await worker.source.close()


async def test_a_tenant_gets_its_whole_rate_from_one_of_them(tmp_path: Path) -> None:
    now, who = [0.0], tenant(rows_per_s=80, rows_burst=10)
    one, other = await workers(tmp_path, 2, now)
    assert sum(one.passes(who) for _ in range(50)) == 10
    for _ in range(20):
        now[0] += 0.125
        await one.refresh()
        await other.refresh()
        assert sum(one.passes(who) for _ in range(50)) == 10


async def test_what_is_in_flight_elsewhere_counts_at_once(tmp_path: Path) -> None:
    who = tenant(concurrency=2)
    one, other = await workers(tmp_path, 2, [0.0])
    assert one.hold(who)
    assert one.hold(who)
    await other.refresh()
    with pytest.raises(Fault, match="2 requests at once"):
        other.quotas.acquire(who)
    one.let_go()
    assert other.hold(who)
    await one.refresh()
    assert not one.hold(who)
    await one.source.close()
    await other.refresh()
    assert other.hold(who)


async def test_a_killed_process_holds_no_places_and_leaves_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _KILLED, str(tmp_path)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as dying:
        assert dying.stdout is not None
        assert dying.stdout.readline() == b"True True\n"
        [one] = await workers(tmp_path, 1, [0.0])
        assert not one.hold(tenant(concurrency=2))
        dying.kill()
        dying.wait()
    await one.refresh()
    assert one.hold(tenant(concurrency=2))
    await workers(tmp_path, 1, [0.0])
    assert len(list(tmp_path.iterdir())) == 2


async def test_a_disk_without_room_is_said_at_once_and_kills_nobody_later(small_disk: Path) -> None:
    [door] = await workers(small_disk / "quotas", 1, [0.0])
    assert door.log.events == ["quotas are counted by each process alone"]
    assert list((small_disk / "quotas").iterdir()) == []
    assert door.passes(tenant(rows_per_s=1))
