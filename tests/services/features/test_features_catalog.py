"""Feature services that are registered while the service runs are served without a restart."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path

import pytest
from feast import FeatureService, FeatureStore

from headrace.hop.config import ConfigError
from headrace.hop.errors import Code, Fault
from headrace.hop.testing import served
from services.features.wiring import SERVICE
from tests.services.features.calling import get
from tests.services.features.conftest import PATIENT, create_repo


async def test_a_new_feature_service_is_found(tmp_path: Path, now: datetime) -> None:
    create_repo(tmp_path, {"type": "sqlite", "path": "online_store.db"})
    async with served(SERVICE, {"repo": tmp_path, "refresh_s": 0.05, **PATIENT}) as harness:
        with pytest.raises(Fault) as unknown:
            await get(harness, {"tail": ["p1"]}, "later")
        assert unknown.value.code == Code.NOT_FOUND
        store = FeatureStore(repo_path=str(tmp_path))
        await asyncio.to_thread(
            store.apply,
            [FeatureService(name="later", features=[store.get_feature_view("planes")[["seats"]]])],
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                found = await get(harness, {"tail": ["p1"]}, "later")
                break
            except Fault:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        assert list(found.values) == ["seats", "@age_us/planes", "@source/planes"]
        (tmp_path / "registry.db").write_bytes(b"\x00 not a registry")
        await asyncio.sleep(0.2)
        assert (await get(harness, {"tail": ["p1"]}, "later")).values["seats"] == [101]


async def test_a_folder_without_a_repository_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prepared Feast repository"):
        async with served(SERVICE, {"repo": tmp_path / "nothing", **PATIENT}):
            pass
