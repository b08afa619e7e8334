"""A lifelike console for a real browser: three pipelines, a rollout, an experiment, a change that went wrong.

`python -m tests.services.monitoring.console.console_scene PORT` serves it, and prints the key.
"""

import asyncio
import math
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog

from headrace.analysis import ArmReadOut, ReadOut
from headrace.analysis.experiment import Lift
from headrace.analysis.mean_difference import Difference
from headrace.releases import Experiment
from headrace.releases.of_records import RecordReleases
from services.monitoring.console.assembly import console
from services.monitoring.console.facts.live import Live
from services.monitoring.console.ports import Panel
from tests.released import releases_in
from tests.services.monitoring.console.console_alertmanager import alertmanager, fire
from tests.services.monitoring.console.console_place import Place, drift, minutes
from tests.services.monitoring.console.console_requests import explained, recorded

_SAMPLE_S = 5.0


def scene(folder: Path, releases: RecordReleases) -> Place:
    """The home, with its releases some minutes to days old."""
    place = Place(folder, releases)
    now = time.time()  # a person looks at "4 minutes ago"
    place.wall = now - minutes(60 * 50)
    for name in ("fares", "moderation", "flights"):
        place.deploy(name, reason="first release")
        place.answer(48_000, 9, name=name)
    place.wall = now - minutes(60 * 26)
    place.deploy("fares", "2", "retrained on October")
    place.answer(31_000, 6, name="fares")
    place.wall = now - minutes(22)
    place.deploy("moderation", "2", "ticket 7: smaller model")
    place.answer(6_000, 240, name="moderation", ms=31)
    place.wall = now - minutes(4)
    place.roll_out("flights")
    place.answer(1_260, 1, arm="candidate", ms=14)
    place.answer(24_000, 24)
    place.report()
    place.experiment = experiment(now)

    async def drifted(name: str) -> Panel | None:
        return await drift(name) if name == "flights" else None

    place.panels.append(drifted)
    place.wall = now
    recorded(place, explained)
    return place


def experiment(now: float) -> tuple[Experiment, ReadOut]:
    about = Experiment(
        name="seats",
        arms=("live", "candidate"),
        outcome="late",
        started=datetime.fromtimestamp(now - 7200, UTC),
    )
    lift = Lift(Difference(-0.021, -0.034, -0.008), Difference(-0.11, -0.18, -0.04))
    arms = {"live": ArmReadOut(5_120, 4_870, 0.1931), "candidate": ArmReadOut(5_064, 4_811, 0.1722)}
    return about, ReadOut("live", arms, {"candidate": lift}, 3, "as expected", 0.2)


def traffic(place: Place, second: float) -> None:
    """What is answered in one sample."""
    wave = 1 + 0.25 * math.sin(second / 90) + 0.08 * math.sin(second / 7)
    place.answer(round(400 * wave), round(0.4 * wave), ms=12 + 2 * math.sin(second / 40))
    place.answer(round(21 * wave), 0, arm="candidate", ms=15)
    place.answer(round(150 * wave), round(6 * wave), name="moderation", ms=31)
    place.answer(round(70 * wave), 0, name="fares", ms=9)
    place.report()


@asynccontextmanager
async def shown(place: Place, port: int) -> AsyncIterator[Live]:
    """The console with 15 minutes behind it and traffic that goes on."""
    log = structlog.get_logger()
    settings = place.settings(f"127.0.0.1:{port}")
    # The real clock: pages are looked at while time goes by.
    async with console(settings, place.sources(), log, time.time, time.monotonic) as live:
        now = time.time()
        for i in range(180, 0, -1):
            traffic(place, i * _SAMPLE_S)
            live.sample(place.ticks.by_router(), now - i * _SAMPLE_S)
        traffic(place, 0.0)
        going_on = asyncio.create_task(_go_on(place))
        try:
            yield live
        finally:
            going_on.cancel()


async def _go_on(place: Place) -> None:
    while True:
        traffic(place, time.time())
        await asyncio.sleep(_SAMPLE_S)


async def main(port: int) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = scene(Path(folder), stack.enter_context(releases_in(Path(folder) / "control")))
        if shutil.which("prometheus-alertmanager"):
            place.alertmanager = stack.enter_context(alertmanager(Path(folder)))
            fire(place.alertmanager)
        print(place.keys["operator"], flush=True)
        async with shown(place, port):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
