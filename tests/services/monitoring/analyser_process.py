"""A process with an analyser over Redis: `python -m tests.services.monitoring.analyser_process PORT PREFIX TICKS LEASE_MS`.

What the routers count, and the time, are in the file TICKS. It prints a line for each thing that it does.
"""

import asyncio
import pickle
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headrace.releases import Release
from headrace.releases.place import open_store
from headrace.releases.redis import RedisReleases
from services.monitoring.rollouts.analyser import Analyser, Settings
from services.monitoring.rollouts.counts import Tick
from services.monitoring.rollouts.evidence import Objectives
from services.monitoring.rollouts.handover_redis import TIMEOUT_S, RedisEvidence, RedisLease
from services.monitoring.rollouts.notices import Notices
from services.monitoring.rollouts.policy import Decision
from tests.services.monitoring.rollout_analyser import Observed
from tests.services.monitoring.rollout_simulation import EDGES


class Said(Observed):
    """Prints what changes."""

    def changed(self, pipeline: str, decision: Decision) -> None:
        print(f"changed {decision.action}", flush=True)

    def leading(self, leads: bool) -> None:
        if leads != self.leads:
            print("leads" if leads else "stands by", flush=True)
        super().leading(leads)


class FileCounts:
    """What another process wrote."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[float, Sequence[Tick]]:
        found: tuple[float, Sequence[Tick]] = pickle.loads(self._path.read_bytes())
        return found

    async def ticks(self, release: Release) -> Sequence[Tick]:
        return self.read()[1]

    async def objectives(self, release: Release) -> Objectives:
        return Objectives()


def analyser_in_redis(
    store: RedisReleases,
    counts: Any,
    clock: Any,
    observed: Observed,
    threads: ThreadPoolExecutor,
    lease_ms: int,
) -> tuple[Analyser, RedisLease]:
    """As the service makes it."""
    client = store.connect(TIMEOUT_S)
    lease = RedisLease(client, f"{store.tag}:rollouts:lease", lease_ms)
    store.fence_by(lambda: lease.fence)
    evidence = RedisEvidence(client, f"{store.tag}:rollouts:evidence:", lease)
    notices = Notices({}, threads, observed, observed.failed)
    settings = Settings(EDGES, 0.05)
    made = Analyser(store, counts, lease, evidence, settings, notices, observed, observed, clock, threads)
    return made, lease


def main(port: str, prefix: str, ticks: str, lease_ms: str) -> None:
    store = open_store(f"redis://127.0.0.1:{port}/0?prefix={prefix}")
    assert isinstance(store, RedisReleases)
    counts = FileCounts(Path(ticks))
    with ThreadPoolExecutor(4) as threads:
        made, _ = analyser_in_redis(store, counts, lambda: counts.read()[0], Said(), threads, int(lease_ms))
        asyncio.run(made.run())


if __name__ == "__main__":
    main(*sys.argv[1:])
