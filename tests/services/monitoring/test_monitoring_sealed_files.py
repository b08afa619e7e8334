"""Sealed, plain and locked files are counted, whatever a store does; the count goes on."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headrace.encryption import Sealer, Store
from headrace.encryption import lines as sealing
from headrace.encryption.kms.file_kms import make
from services.monitoring.audit.sealed_files import SealedFileMetrics, SealedFileWatch
from tests.libs.encryption.test_encryption_census import Store as Lines
from tests.libs.encryption.test_encryption_census import sealer as sealer_of
from tests.services.monitoring.monitoring_outcomes import Log


class Broken(Lines):
    name = "broken"

    def files(self) -> Sequence[Path]:
        raise RuntimeError("a bug")


def sealer(keys: Path) -> Sealer:
    make(keys, keys.name)
    return sealer_of(keys)


async def test_files_are_counted_by_state_and_a_bug_in_one_store_stops_no_other(tmp_path: Path) -> None:
    ours, registry, log = sealer(tmp_path / "ours"), CollectorRegistry(), Log()
    turn: asyncio.Queue[None] = asyncio.Queue()
    on: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(_: float) -> None:
        turn.put_nowait(None)
        await on.get()

    def value(state: str) -> float | None:
        return registry.get_sample_value("headrace_encryption_files", {"store": "lines", "state": state})

    (tmp_path / "a.lines").write_bytes(sealing.seal_line(ours, b"x", "a"))
    (tmp_path / "b.lines").write_bytes(b"{}\n")
    stores: list[Store] = [Broken(tmp_path), Lines(tmp_path)]
    watch = SealedFileWatch(stores, ours, SealedFileMetrics(registry), log, sleep)
    task = asyncio.create_task(watch.run())
    await asyncio.wait_for(turn.get(), 60)
    assert [value(s) for s in ("sealed", "plain", "locked", "damaged", "unreadable")] == [1, 1, 0, 0, 0]
    assert log.events == ["its files can't be counted: RuntimeError: a bug"]
    (tmp_path / "c.lines").write_bytes(sealing.seal_line(sealer(tmp_path / "others"), b"x", "a"))
    on.put_nowait(None)
    await asyncio.wait_for(turn.get(), 60)
    assert (value("sealed"), value("locked")) == (1, 1)
    assert log.events[1:] == ["1 files are locked: their key is not here"]
    # While the keys are away, what was counted last is told on.
    (tmp_path / "ours").rename(tmp_path / "hidden")
    on.put_nowait(None)
    await asyncio.wait_for(turn.get(), 60)
    assert (value("sealed"), value("locked")) == (1, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
