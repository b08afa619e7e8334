"""`headrace up` waits for services as long as there is hope, and says why where there is none."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.installation import layout
from headrace.cli.supervision import control, daemon

WRONG, RIGHT = "preprocessing", "postprocessing"
NAMES = ("first", "second", "third")


class Told:
    """What a supervisor tells of its services, and a clock on which each answer takes `each_s`."""

    def __init__(self, *ready: tuple[str, ...], each_s: float) -> None:
        self.now = 1000.0
        self.asked = 0
        self.fails = 0  # the next so many answers
        self._ready, self._each_s = ready, each_s

    def clock(self) -> float:
        return self.now

    async def answer(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        self.now += self._each_s
        if self.fails:
            self.fails -= 1
            raise OSError("held up")
        ready = self._ready[min(self.asked, len(self._ready) - 1)]
        if self.now > 20_000:  # no wait may be that long: it ends, and the test sees that it did not fail
            ready = NAMES
        self.asked += 1
        states = {name: "ready" if name in ready else "starting" for name in NAMES}
        return {"services": {name: {"state": state, "trouble": None} for name, state in states.items()}}

    async def waited(self, place: layout.Layout, supervisor: subprocess.Popen[bytes]) -> None:
        async with control.serving(place.control, self.answer):
            await asyncio.to_thread(
                daemon.wait_ready, place, supervisor, lambda _: None, 120.0, clock=self.clock
            )


@pytest.fixture
def place(tmp_path: Path) -> layout.Layout:
    made = layout.of(tmp_path)
    made.make()
    return made


@pytest.fixture
def running() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs until the test ends: that is all that the wait looks at."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_waiting_ends_at_once_for_a_service_that_cannot_use_its_settings(place: layout.Layout) -> None:
    place.override(WRONG).parent.mkdir()
    place.override(WRONG).write_text("no_such_setting: 1\n")
    supervisor = daemon.start_supervisor(place, "apart", tie=True)
    states: list[Mapping[str, Any]] = []
    try:
        # Others fail in this empty home, too, and the first to do so ends the wait: until ours has.
        while True:
            with pytest.raises(daemon.StartError) as caught:
                await asyncio.to_thread(daemon.wait_ready, place, supervisor, states.append, 600)
            assert "not ready after" not in str(caught.value)
            if WRONG in str(caught.value):
                break
            await asyncio.sleep(0.05)
        assert f"{WRONG} will not be ready: it can't use its settings" in str(caught.value)
        assert "no_such_setting: Extra inputs are not permitted" in str(caught.value)
        assert states[-1][RIGHT]["trouble"] is None
    finally:
        await asyncio.to_thread(daemon.abandon, supervisor)


async def test_a_supervisor_that_does_not_answer_is_asked_again(
    place: layout.Layout, running: subprocess.Popen[bytes]
) -> None:
    told = Told((), NAMES, each_s=1.0)
    told.fails = 3
    await told.waited(place, running)
    assert told.fails == 0
    assert told.asked == 2


async def test_a_supervisor_that_never_answers_ends_the_wait(
    place: layout.Layout, running: subprocess.Popen[bytes]
) -> None:
    told = Told((), each_s=50.0)
    told.fails = 1000
    with pytest.raises(daemon.StartError, match="not ready after 150 s: supervisor"):
        await told.waited(place, running)
    assert told.fails == 997


async def test_each_service_that_becomes_ready_gives_the_others_time(
    place: layout.Layout, running: subprocess.Popen[bytes]
) -> None:
    told = Told((), ("first",), ("first",), ("first", "second"), ("first", "second"), NAMES, each_s=50.0)
    await told.waited(place, running)
    assert told.now == 1000.0 + 6 * 50.0


async def test_the_wait_ends_when_none_becomes_ready_any_more(
    place: layout.Layout, running: subprocess.Popen[bytes]
) -> None:
    told = Told((), ("first",), each_s=50.0)
    with pytest.raises(daemon.StartError, match="not ready after 250 s: second, third"):
        await told.waited(place, running)


async def test_a_service_that_comes_and_goes_gives_no_more_time(
    place: layout.Layout, running: subprocess.Popen[bytes]
) -> None:
    told = Told(*[("first",), ()] * 100, each_s=50.0)
    with pytest.raises(daemon.StartError, match="not ready after 200 s: first, second, third"):
        await told.waited(place, running)
