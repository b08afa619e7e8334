"""Many ask while versions are exchanged: no answer is that of another version than the one that it names."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from tests.services.router.cache_world import DOCUMENT, Served, World, ages, loaded, values

_ROWS = 24
_CLIENTS = 8


class Swaps:
    """A pipeline whose model gives x · version. `uses`: of the number that serves, whose weights operators exchange, too."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.world = World(turns=3)
        self.served = Served(self.world, DOCUMENT)
        self.version, self.asked, self.kept, self.swaps = 1, 0, 0, 0
        self.sha256s = {1: {"a"}}

    def deploy(self) -> None:
        """Another revision, which pins another version; from now on it answers, and no other."""
        self.version += 1
        loaded(self.world, float(self.version), f"sha of {self.version}")
        self.sha256s[self.version] = {f"sha of {self.version}"}
        self.served.deploy(DOCUMENT.replace('"7"', f'"v{self.version}"'), self.version)
        self.swaps += 1

    async def client(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            await asyncio.sleep(0)  # an answer out of the cache needs no other turn
            begun = self.version
            xs = [float(self.dice.randrange(_ROWS)) for _ in range(self.dice.randrange(1, 6))]
            result = await self.served.ask(xs, keys=[f"k{self.dice.randrange(3)}"] * len(xs))
            (decision,) = result.decisions
            assert begun <= decision.version <= self.version
            (model,) = decision.models
            factor = decision.version
            assert model.sha256 in self.sha256s[factor]
            assert values(result) == [x * factor for x in xs]
            self.asked += 1
            self.kept += sum(age >= 0 for age in ages(result))

    async def operator(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            for _ in range(self.dice.randrange(60)):
                await asyncio.sleep(0)
            self.world.now += self.dice.choice([0.0, 0.1, 4.0])
            self.deploy()

    async def run(self, goes_on: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(_CLIENTS):
                group.create_task(self.client(goes_on))
            group.create_task(self.operator(goes_on))
        assert self.swaps > 5
        assert self.kept > self.asked / 20, "hardly anything came from the cache, so nothing was shown"


@pytest.mark.parametrize("seed", range(3))
async def test_no_answer_is_that_of_another_version(seed: int) -> None:
    swaps = Swaps(seed)
    await swaps.run(lambda: swaps.asked < 3000)


@pytest.mark.slow
async def test_no_answer_is_that_of_another_version_for_a_minute() -> None:
    swaps, end = Swaps(11), time.monotonic() + 60
    await swaps.run(lambda: time.monotonic() < end)
    print(f"{swaps.asked} requests, {swaps.kept} rows from the cache, {swaps.swaps} swaps")
