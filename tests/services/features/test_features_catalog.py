"""Feature services that are registered while the service runs are served without a restart."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from feast import FeatureService, FeatureStore

from headrace.hop.config import ConfigError
from headrace.hop.errors import Code, Fault
from tests.services.features.calling import get, serving
from tests.services.waiting import until


async def test_a_new_feature_service_is_found(own_sqlite_repo: Path, now: datetime) -> None:
    async with serving(own_sqlite_repo, refresh_s=0.05) as harness:
        with pytest.raises(Fault) as unknown:
            await get(harness, {"tail": ["p1"]}, "later")
        assert unknown.value.code == Code.NOT_FOUND
        store = FeatureStore(repo_path=str(own_sqlite_repo))
        seats = store.get_feature_view("planes")[["seats"]]
        await asyncio.to_thread(store.apply, [FeatureService(name="later", features=[seats])])

        async def known() -> bool:
            with suppress(Fault):
                await get(harness, {"tail": ["p1"]}, "later")
                return True
            return False

        await until(known)
        found = await get(harness, {"tail": ["p1"]}, "later")
        assert list(found.values) == ["seats", "@age_us/planes", "@source/planes"]
        (own_sqlite_repo / "registry.db").write_bytes(b"\x00 not a registry")
        await asyncio.sleep(0.2)
        assert (await get(harness, {"tail": ["p1"]}, "later")).values["seats"] == [101]


async def test_a_folder_without_a_repository_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prepared Feast repository"):
        async with serving(tmp_path / "nothing"):
            pass
