"""The monitoring service is killed under load: no request notices, no regulated event is lost, the gaps are what others lost."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.hop.config import ClientSettings
from headrace.hop.testing import Harness
from tests.children import ends_with_tests
from tests.services.monitoring.monitoring_calls import METHODS
from tests.services.router.router_leaves import REGULATED, SCORED, Suite, batch_of, suite
from tests.services.waiting import until

ROOT = Path(__file__).parents[3]
STRICT = REGULATED.replace("pipeline: scored", "pipeline: strict")


class Monitoring:
    """The service as a process of its own, on a socket in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "m.sock"
        self.config = folder / "monitoring.yaml"
        values = {"server": {"listen": f"unix:{self.socket}"}, "events": {"folder": str(folder / "events")}}
        self.config.write_text(yaml.safe_dump(values))
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "services.monitoring", "--config", str(self.config)]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}"}
        self.process = await asyncio.create_subprocess_exec(
            *ends_with_tests(*command), cwd=ROOT, env=environment
        )

    async def stop(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        await self.process.wait()


async def call(harness: Harness, target: str, name: str, request: Any) -> Any:
    client = harness.runtime.dial("monitoring", ClientSettings(target=target))
    try:
        return await client.unary(METHODS[name])(request, deadline=time.monotonic() + 30)
    finally:
        await client.close()


class Load:
    """Requests of both pipelines, one after another from a few callers, until `stopped`."""

    def __init__(self, started: Suite) -> None:
        self.started = started
        self.answered: dict[str, list[str]] = {"scored": [], "strict": []}
        self.failed: list[str] = []
        self.stopped = False

    async def caller(self, name: str, pipeline: str) -> None:
        number = 0
        while not self.stopped:
            request = f"{name}-{number}"
            reply = await self.started.ask(pipeline, batch_of(["ab"], [1.0], request_id=request))
            (self.failed if reply.batch.errors else self.answered[pipeline]).append(request)
            number += 1
            await asyncio.sleep(0)

    async def more(self, count: int) -> None:
        """Returns when each pipeline has answered so many requests more."""
        wanted = {p: len(a) + count for p, a in self.answered.items()}
        await until(lambda: all(len(self.answered[p]) >= n for p, n in wanted.items()), 90)


@pytest.mark.slow  # starts the service twice; in short: test_monitoring_events.py, test_router_events.py
async def test_a_kill_under_load_costs_nothing_but_known_gaps(tmp_path: Path) -> None:
    monitoring = Monitoring(tmp_path)
    target = f"unix:{monitoring.socket}"
    given = {
        "monitoring": {"target": target},
        "events": {
            # Too few to wait for a service that is being restarted: some must be lost.
            "max_waiting_rows": 50,
            "message_rows": 20,
            "wait_s": 0.02,
            "journal": {"folder": tmp_path / "journal", "collect_s": 0.05},
        },
    }
    await monitoring.start()
    async with suite(tmp_path / "documents", {"scored": SCORED, "strict": STRICT}, **given) as started:
        load = Load(started)
        callers = [
            asyncio.create_task(load.caller(f"{p}{i}", p)) for p in ("scored", "strict") for i in range(2)
        ]

        def metric(name: str, **labels: str) -> float:
            return started.sample(f"router_{name}", **labels) or 0.0

        await until(lambda: metric("events_total") > 60, 90)
        await monitoring.stop(signal.SIGKILL)
        await load.more(100)
        dropped = metric("dropped_events_total", reason="full")
        assert dropped > 0
        await monitoring.start()
        sent = metric("events_total")
        await until(lambda: metric("events_total") > sent + 60, 90)
        load.stopped = True
        await asyncio.gather(*callers)

        def settled() -> bool:
            everything = metric("events_total") + metric("dropped_events_total", reason="full")
            return everything >= len(load.answered["scored"]) and not list((tmp_path / "journal").iterdir())

        await until(settled, 90)
        assert load.failed == []
        reply = await call(started.router, target, "ListEventGaps", pb.ListEventGapsRequest())
        stored = gaps_stored(reply, load, metric("dropped_events_total", reason="full"))
    await monitoring.stop(signal.SIGTERM)
    for pipeline, count in (("strict", len(load.answered["strict"])), ("scored", stored)):
        found = stored_requests(tmp_path / "events" / "segments", pipeline)
        assert len(found) == len(set(found)) == count
        assert set(found) <= set(load.answered[pipeline])


def gaps_stored(reply: pb.ListEventGapsResponse, load: Load, lost: float) -> int:
    """The gaps are what the router lost, and none is of regulated predictions; returns how many of the others are stored."""
    [ring] = [s for s in reply.streams if s.noted_count == len(load.answered["scored"])]
    missing = sum(gap.last - gap.first + 1 for gap in ring.gaps)
    assert missing == lost
    assert ring.stored_count == ring.noted_count - missing
    strict = [s for s in reply.streams if s.epoch != ring.epoch]
    assert [len(s.gaps) for s in strict] == [0]
    assert sum(s.stored_count for s in strict) == len(load.answered["strict"])
    print(
        f"answered {len(load.answered['scored'])}, {len(load.answered['strict'])} regulated, missing {missing}"
    )
    return ring.stored_count


def stored_requests(folder: Path, pipeline: str) -> list[str]:
    """Ids of the requests of which there is an event, as another program reads them."""
    found: list[str] = []
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path, columns=["$pipeline", "$request_id"]).to_pylist()
        found += [row["$request_id"] for row in table if row["$pipeline"] == pipeline]
    return found
