"""SQLite's file is deleted, cut off, overwritten or locked up while the service reads it: as with any store that is down."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from headrace.hop.testing import Harness
from tests.services.features.calling import get, serving
from tests.services.features.test_features_outage import BREAKER, KNOWN, UNSEEN, eventually


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_off(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(5000)


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_other_types(path: Path) -> None:
    with closing(sqlite3.connect(path)) as online:
        online.execute("UPDATE small_planes SET event_ts = 'soon'")
        online.execute("UPDATE small_airports SET event_ts = NULL")
        online.commit()


@pytest.mark.parametrize("fault", [delete, empty, cut_off, overwrite, replace_by_folder, of_other_types])
async def test_a_lost_file_leaves_last_known_values_then_defaults_and_recovers(
    own_sqlite_repo: Path, now: datetime, fault: Callable[[Path], None]
) -> None:
    path, copy = own_sqlite_repo / "online_store.db", own_sqlite_repo / "copy.db"
    shutil.copy(path, copy)
    async with serving(own_sqlite_repo, breaker=BREAKER) as harness:
        before = await get(harness, KNOWN)
        assert before.sources("planes") == ["PRESENT", "PRESENT"]
        fault(path)
        await eventually(lambda: get(harness, KNOWN), ["STALE", "STALE"])
        # Longer than a connection is trusted without a look at the file, and than the breaker is open.
        await all_the_while(harness, before.values["seats"])
        if path.is_dir():
            path.rmdir()
        copy.replace(path)
        await eventually(lambda: get(harness, KNOWN), ["PRESENT", "PRESENT"])
        assert (await get(harness, UNSEEN)).values["seats"] == [103]


async def all_the_while(harness: Harness, seats: list[object], for_s: float = 1.5) -> None:
    """What is known and what is not, while the store is lost: answers, never a failed call."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        stale = await get(harness, KNOWN)
        assert stale.sources("planes") == ["STALE", "STALE"]
        assert stale.values["seats"] == seats
        nothing = await get(harness, UNSEEN)
        assert nothing.sources("planes") == ["DEFAULT"]
        assert nothing.values["seats"] == [None]
        await asyncio.sleep(0.02)
