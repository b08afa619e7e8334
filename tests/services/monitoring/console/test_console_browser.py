"""Every page in a real Chromium: sign-in, a rollback from the first page, no console error, axe-core, no page too wide."""

import asyncio
import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.released import releases_in
from tests.services.monitoring.console.console_alertmanager import alertmanager, fire
from tests.services.monitoring.console.console_place import Place
from tests.services.monitoring.console.console_scene import scene, shown
from tests.system import ROOT, client_environment

PYTHON = ROOT / ".venv" / "browser" / "bin" / "python"
SCRIPT = ROOT / "tests" / "browser" / "console_pages.py"


async def visited(place: Place, folder: Path) -> dict[str, Any]:
    """What the browser found."""
    shots = folder / "screenshots"
    shots.mkdir()
    port = free_port()
    async with shown(place, port):
        process = await asyncio.create_subprocess_exec(
            str(PYTHON), str(SCRIPT), f"http://127.0.0.1:{port}", place.keys["operator"], str(shots),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=client_environment(),
        )  # fmt: skip
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-3000:]
    return dict(json.loads(output))


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("chromium") and PYTHON.exists()),
    reason="needs Debian's chromium and chromium-driver, and .venv/browser (make test-slow)",
)
async def test_every_page_in_a_real_browser(tmp_path: Path) -> None:
    with ExitStack() as stack:
        place = scene(tmp_path, stack.enter_context(releases_in(tmp_path / "control")))
        stack.callback(place.close)
        if shutil.which("prometheus-alertmanager"):
            place.alertmanager = stack.enter_context(alertmanager(tmp_path))
            fire(place.alertmanager)
        told = await visited(place, tmp_path)
        release = place.store.history("moderation")[0]
    assert told["findings"] == []
    assert told["messages"] == []
    assert told["kept_focus"]
    assert "release 3 is current" in told["paused"]
    if place.alertmanager:
        assert "ticket 7" in told["silenced"]
    assert "Done: release 3 is current" in told["done"]
    assert (release.restores, release.reason) == (1, "figures got worse")
    assert len(list((tmp_path / "screenshots").glob("*.png"))) == 58
