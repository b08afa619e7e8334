"""Background tasks of a service."""

import asyncio

from structlog.testing import CapturingLogger

from headrace.hop.process import background


async def test_an_error_is_in_the_log_and_ends_nothing_else() -> None:
    log = CapturingLogger()

    async def fails() -> None:
        raise ValueError("no such row")

    async with background.running(fails(), "sweep", log):
        while not log.calls:
            await asyncio.sleep(0)
    [(method, _, said)] = log.calls
    assert (method, said["task"], said["error"]) == ("error", "sweep", "ValueError: no such row")


async def test_work_that_loses_a_cancellation_ends_all_the_same() -> None:
    lost = 0

    async def loses() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost += 1

    async with background.running(loses(), "follow", CapturingLogger()):
        await asyncio.sleep(0)
    assert lost == 1
