"""`headrace up` waits for services as long as there is hope, and says why where there is none."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from headrace.cli.installation import layout
from headrace.cli.supervision import daemon

WRONG, RIGHT = "preprocessing", "postprocessing"


async def test_waiting_ends_at_once_for_a_service_that_cannot_use_its_settings(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    place.make()
    place.override(WRONG).parent.mkdir()
    place.override(WRONG).write_text("no_such_setting: 1\n")
    supervisor = daemon.start_supervisor(place, "apart", tie=True)
    began = time.monotonic()
    try:
        # Others fail in this empty home, too, and the first to do so ends the wait: until ours has.
        while True:
            with pytest.raises(daemon.StartError) as caught:
                await asyncio.to_thread(daemon.wait_ready, place, supervisor, lambda _: None, 120)
            assert time.monotonic() - began < 60
            if WRONG in str(caught.value):
                break
            await asyncio.sleep(0.05)
        assert f"{WRONG} will not be ready: it can't use its settings" in str(caught.value)
        assert "no_such_setting: Extra inputs are not permitted" in str(caught.value)
        services = (await asyncio.to_thread(daemon.status, place))["services"]
        assert services[RIGHT]["trouble"] is None
    finally:
        await asyncio.to_thread(daemon.abandon, supervisor)
