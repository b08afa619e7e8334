"""Windows outlive their process, and what can't be read or written stops no judgement."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings

from headrace.analysis import Count
from headrace.drift import Baseline
from services.monitoring.database.facts import Facts
from services.monitoring.drift.persistence import WINDOWS, Memory
from services.monitoring.drift.ports import Version
from services.monitoring.drift.watch import Watch
from services.monitoring.drift.windows import Ended, Windows
from tests.libs.drift.training import draw
from tests.services.monitoring.drift.drift_monitor import BEGIN, LIVE, Watched
from tests.services.monitoring.drift.drift_windows import LAYOUT, SPANS, STEPS, filled
from tests.services.monitoring.monitoring_outcomes import Log, facts_at


class Process:
    """A process of the service with this database, at a time that the test sets."""

    def __init__(self, facts: Facts, baseline: Baseline, counts: dict[Version, Count] | None = None) -> None:
        self.watched, self.now, self.log = Watched(), BEGIN, Log()
        self.memory = Memory(facts, self.watched.metrics.counting, self.log)
        self._threads = ThreadPoolExecutor(1)

        async def errors() -> dict[Version, Count]:
            return counts or {}

        self.watch = Watch(
            self.watched.monitor,
            lambda _: baseline,
            errors,
            lambda: self.now,
            self._threads,
            self.watched.log,
            30.0,
            self.memory,
        )

    async def answer(self, rows: dict[str, Any], now: float) -> None:
        self.now = now
        self.watched.observe(rows, now)
        await self.watch.step()

    async def answer_minute(self, rows: int, rng: np.random.Generator, **change: float) -> None:
        """From BEGIN on so many rows every ten seconds."""
        for second in range(0, 60, 10):
            await self.answer(draw(rows, rng, **change), BEGIN + second)

    async def end(self) -> None:
        await self.watch.close()
        self._threads.shutdown()

    @property
    def unread(self) -> float | None:
        return self.watched.metric("drift_unreadable_files_total")

    def rows(self) -> int:
        found = self.watched.monitor.newest(LIVE)
        return found.rows if found else 0


def every(windows: Windows) -> list[tuple[str, float, int, tuple[int, ...]]]:
    return [
        (span, w.start, w.sketch.rows, w.sketch.number("x").bins)
        for span in SPANS
        for w in windows.ended(span)
    ]


@given(STEPS, STEPS)
@settings(max_examples=40)
def test_a_restart_changes_no_window(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    whole, middle = filled(before)
    # It ends, and another one begins in the same second.
    cut, _ = filled(before)
    cut.end(float("inf"))
    kept = [Ended(span, w) for span in SPANS for w in cut.ended(span)]
    resumed = Windows(LAYOUT)
    resumed.resume(sorted(kept, key=lambda e: e.window.start), middle)
    for windows in (whole, resumed):
        filled(after, middle, windows)
        windows.end(middle + 1e6)
    # Of a moment so long ago that no slice of it is kept, the window that was open then is lost: never a row twice.
    if len(before) <= 12:
        assert every(resumed) == every(whole)
    assert resumed.newest(10**9).rows <= whole.newest(10**9).rows


@pytest.mark.parametrize("killed", [False, True])
async def test_drift_is_known_at_once_after_a_restart(baseline: Baseline, facts: Facts, killed: bool) -> None:
    rng = np.random.default_rng(1)
    first = Process(facts, baseline)
    await first.answer_minute(500, rng, shift=1.0)
    if not killed:
        await first.end()

    again = Process(facts, baseline)
    await again.answer(draw(10, rng), BEGIN + 65)
    assert again.rows() >= 2010, "all but the slice that was open"
    assert [line["column"] for line in again.watched.log.of("drift: raised")] == ["n3"]
    await again.end()


async def test_a_window_that_can_not_be_read_is_passed_over(baseline: Baseline, facts: Facts) -> None:
    rng = np.random.default_rng(1)
    first = Process(facts, baseline)
    await first.answer_minute(100, rng)
    await first.end()
    broken = sa.update(WINDOWS).where(WINDOWS.c.span == "slice", WINDOWS.c.start == BEGIN)
    facts.write(lambda connection: connection.execute(broken.values(sketch=b"\0")))

    again = Process(facts, baseline)
    await again.answer(draw(10, rng), BEGIN + 60)
    await again.answer(draw(10, rng), BEGIN + 71)
    assert (again.rows(), again.unread) == (520, 1)
    assert again.log.of("a window of drift can't be read")
    await again.end()


async def test_the_reference_of_error_rates_outlives_the_process(baseline: Baseline, facts: Facts) -> None:
    version = Version("flights", "live", "m=1")
    first = Process(facts, baseline, {version: Count(2000, 200)})
    await first.watch.step()
    await first.end()

    # While it was away, a third was wrong.
    again = Process(facts, baseline, {version: Count(4000, 900)})
    again.watched.monitor.restore_concepts(again.memory.concepts())
    await again.watch.step()
    assert again.watched.metric("drift_concept", pipeline="flights", arm="live") == 1
    again.watched.monitor.restore_concepts({version: {"reference": "none"}})
    assert again.watched.log.of("the reference of an error rate can't be read; it begins anew")
    await again.end()


async def test_a_database_that_can_not_be_written_stops_no_judgement(
    baseline: Baseline, tmp_path: Path
) -> None:
    log, rng, path = Log(), np.random.default_rng(1), tmp_path / "facts"
    path.mkdir()
    with closing(facts_at(path, log)) as facts:
        process = Process(facts, baseline)
        await process.answer_minute(500, rng, shift=1.0)
        assert process.watched.log.of("drift: raised")
        path.rmdir()
        await process.answer(draw(500, rng), BEGIN + 60)
        await process.end()
    assert log.events[-1] == "facts are stored again"


async def test_old_windows_go(baseline: Baseline, facts: Facts) -> None:
    process = Process(facts, baseline)
    await process.answer_minute(10, np.random.default_rng(1))
    await process.end()
    process.memory.save([], {}, BEGIN + 1000)
    spans = sa.select(WINDOWS.c.span).distinct().order_by(WINDOWS.c.span)
    assert facts.query(lambda connection: connection.scalars(spans).all()) == ["minute"]
