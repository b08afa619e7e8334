"""Windows outlive their process, several processes are as one, and a file that can't be read harms nothing else."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.analysis import Count
from headrace.drift import Baseline
from services.monitoring.drift.kept.memory import Memory
from services.monitoring.drift.ports import Version
from services.monitoring.drift.watch import Watch
from services.monitoring.drift.windows import SLICE_S, Ended, Windows
from tests.libs.drift.training import draw
from tests.services.monitoring.drift.drift_monitor import BEGIN, LIVE, Watched
from tests.services.monitoring.drift.drift_windows import LAYOUT, SPANS, STEPS, filled
from tests.services.monitoring.monitoring_outcomes import Log


class Process:
    """A process of the service with this folder, at a time that the test sets."""

    def __init__(self, folder: Path, baseline: Baseline, counts: dict[Version, Count] | None = None) -> None:
        self.watched, self.now, self.log = Watched(), BEGIN, Log()
        self.memory = Memory(folder, self.watched.metrics.counting, self.log)
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
        self.memory.close()
        self._threads.shutdown()

    @property
    def failing(self) -> float | None:
        return self.watched.metric("drift_storage_failing")

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


@given(STEPS, st.integers(1, 60), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_windows_of_two_processes_are_as_one(found: list[tuple[int, int]], wanted: int, rng: Any) -> None:
    one, two, whole = Windows(LAYOUT), Windows(LAYOUT), Windows(LAYOUT)
    now = BEGIN
    for wait, rows in found[:12]:
        now += wait
        for windows in (whole, rng.choice([one, two])):
            windows.at(now).update({"x": [float(now % 30)] * rows}, rows)
    for windows in (one, two, whole):
        windows.end(now + SLICE_S)
    other = Windows(LAYOUT)
    other.put(two.take_ended())
    together, alone = one.newest(wanted, [other]), whole.newest(wanted)
    # A slice that both had is two windows here: what is taken ends within it.
    assert together.rows >= min(wanted, whole.newest(10**9).rows)
    assert together.rows <= alone.rows
    everything, same = one.newest(10**9, [other]), whole.newest(10**9)
    assert (everything.rows, everything.number("x").bins) == (same.rows, same.number("x").bins)


@pytest.mark.parametrize("killed", [False, True])
async def test_drift_is_known_at_once_after_a_restart(
    baseline: Baseline, tmp_path: Path, killed: bool
) -> None:
    rng = np.random.default_rng(1)
    first = Process(tmp_path, baseline)
    await first.answer_minute(500, rng, shift=1.0)
    if killed:
        first.memory.close()  # nothing more is written
    else:
        await first.end()

    again = Process(tmp_path, baseline)
    await again.answer(draw(10, rng), BEGIN + 65)
    assert again.rows() >= 2010, "all but the slice that was open"
    assert [line["column"] for line in again.watched.log.of("drift: raised")] == ["n3"]
    await again.end()


async def test_two_processes_judge_together(baseline: Baseline, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    one, two = Process(tmp_path, baseline), Process(tmp_path, baseline)
    for second in range(0, 60, 10):
        await one.answer(draw(120, rng, shift=0.5), BEGIN + second)
        await two.answer(draw(120, rng, shift=0.5), BEGIN + second)
    # Each keeps its last slice at one look, and reads the other's at the next.
    for process in (one, two, one):
        process.now += SLICE_S
        await process.watch.step()
    assert one.rows() == two.rows() == 1440
    for process in (one, two):
        assert [line["column"] for line in process.watched.log.of("drift: raised")] == ["n3"]
    # One that ended is not missed: what it has counted stays.
    await two.end()
    await one.answer(draw(10, rng), BEGIN + 90)
    assert one.rows() == 1450
    await one.end()


async def test_a_damaged_file_is_put_aside_named_and_counted(baseline: Baseline, tmp_path: Path) -> None:
    (tmp_path / "0.sqlite").write_bytes(b"no database" * 1000)
    process, rng = Process(tmp_path, baseline), np.random.default_rng(1)
    await process.answer(draw(500, rng), BEGIN)
    await process.answer(draw(500, rng), BEGIN + 20)
    assert process.unread == 1
    [line] = process.log.of(
        "the file of the windows of drift was damaged; it was put aside and a new one begun"
    )
    assert line["file"].endswith("0.sqlite.damaged.1")
    assert (tmp_path / "0.sqlite.damaged.1").exists()
    assert process.rows() == 1000
    await process.answer(draw(500, rng), BEGIN + 40)
    assert not process.failing, "a new file was begun"
    await process.end()


async def test_a_window_and_a_file_of_others_that_can_not_be_read_are_passed_over(
    baseline: Baseline, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    first = Process(tmp_path, baseline)
    await first.answer_minute(100, rng)
    await first.end()
    with sqlite3.connect(tmp_path / "0.sqlite") as connection:
        connection.execute("UPDATE windows SET sketch = x'00' WHERE span = 'slice' AND start = ?", (BEGIN,))
    (tmp_path / "7.sqlite").write_bytes(b"no database" * 1000)

    again = Process(tmp_path, baseline)
    await again.answer(draw(10, rng), BEGIN + 60)
    await again.answer(draw(10, rng), BEGIN + 71)
    assert again.rows() == 520
    assert again.unread == 1
    assert {line["file"] for line in again.log.of("a window of drift can't be read")} == {"0.sqlite"}
    assert [line["file"] for line in again.log.of("windows of another process can't be read")] == ["7.sqlite"]
    assert (tmp_path / "7.sqlite").exists(), "its own process puts it aside"
    await again.end()


async def test_the_reference_of_error_rates_outlives_the_process(baseline: Baseline, tmp_path: Path) -> None:
    version = Version("flights", "live", "m=1")
    first = Process(tmp_path, baseline, {version: Count(2000, 200)})
    await first.watch.step()
    await first.end()

    # While it was away, a third was wrong.
    again = Process(tmp_path, baseline, {version: Count(4000, 900)})
    again.watched.monitor.restore_concepts(again.memory.concepts())
    await again.watch.step()
    assert again.watched.metric("drift_concept", pipeline="flights", arm="live") == 1
    again.watched.monitor.restore_concepts({version: {"reference": "none"}})
    assert again.watched.log.of("the reference of an error rate can't be read; it begins anew")
    await again.end()


async def test_a_folder_that_is_not_writable_stops_no_judgement(baseline: Baseline, tmp_path: Path) -> None:
    process, rng = Process(tmp_path, baseline), np.random.default_rng(1)
    (tmp_path / "0.sqlite").mkdir()
    await process.answer_minute(500, rng, shift=1.0)
    assert process.failing
    assert len(process.log.of("windows of drift can't be kept; they are judged all the same")) == 1
    assert process.watched.log.of("drift: raised")
    (tmp_path / "0.sqlite").rmdir()
    await process.answer(draw(500, rng), BEGIN + 60)
    await process.answer(draw(500, rng), BEGIN + 71)
    assert not process.failing
    assert process.log.of("windows of drift are kept again")
    await process.end()
