"""Quotas of several processes of one machine: exact at once, whoever dies, and whatever the disk does."""

import subprocess
import sys
from pathlib import Path

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
