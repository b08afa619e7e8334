"""A process with an analyser: `python -m tests.services.monitoring.analyser_process TARGET FOLDER TICKS LEASE_S`.

It asks the control at TARGET, and has its evidence in FOLDER.

What the routers count, and the time, are in the file TICKS. It prints a line for each thing that it does.
"""

import asyncio
import pickle
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headrace.catalog.remote import RemoteRecords
from headrace.releases import Release
from headrace.releases.ladder import Action, Answer
from headrace.releases.of_records import RecordReleases
from services.monitoring.rollouts.analyser import Analyser, Settings
from services.monitoring.rollouts.counts import Tick
from services.monitoring.rollouts.evidence import Objectives
from services.monitoring.rollouts.handover import ControlLadder, ControlLease, FileEvidence
from services.monitoring.rollouts.judgement import Judgement
from tests.services.monitoring.rollout_analyser import Observed
from tests.services.monitoring.rollout_simulation import EDGES


class Said(Observed):
    """Prints what changes."""

    def looked(self, pipeline: str, judgement: Judgement, answer: Answer) -> None:
        if answer.action is not Action.HOLD:
            print(f"changed {answer.action}", flush=True)

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


def analyser_at(
    records: RemoteRecords,
    folder: Path,
    counts: Any,
    clock: Any,
    observed: Observed,
    threads: ThreadPoolExecutor,
    lease_s: float,
) -> Analyser:
    """As the service makes it."""
    lease, ladder = ControlLease(records, "test", lease_s), ControlLadder(records)
    store, evidence, settings = RecordReleases(records), FileEvidence(folder), Settings(EDGES, 0.05)
    return Analyser(store, counts, lease, evidence, ladder, settings, observed, observed, clock, threads)


def main(target: str, folder: str, ticks: str, lease_s: str) -> None:
    records, counts = RemoteRecords(target), FileCounts(Path(ticks))

    def now() -> float:
        return counts.read()[0]

    with ThreadPoolExecutor(4) as threads:
        made = analyser_at(records, Path(folder), counts, now, Said(), threads, float(lease_s))
        asyncio.run(made.run())


if __name__ == "__main__":
    main(*sys.argv[1:])
