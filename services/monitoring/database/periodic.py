"""Work that is done again and again, and survives whatever fails in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

# How often what is too old or too much is removed.
SWEEP_S = 60.0


async def every(seconds: float, what: Callable[[], Awaitable[Any]], name: str, log: Log) -> None:
    """Until cancelled; first after that time."""
    while True:
        await asyncio.sleep(seconds)
        await attempt(what, name, log)


def sweeps(what: Callable[[], Awaitable[Any]], name: str, log: Log) -> Coroutine[Any, Any, None]:
    """`every` for what removes old rows."""
    return every(SWEEP_S, what, name, log)


async def attempt(what: Callable[[], Awaitable[Any]], name: str, log: Log) -> None:
    """Once. What fails is in the log."""
    try:
        await what()
    except StorageError:
        return  # said by the database
    except Exception as error:  # noqa: BLE001 - the next time may go well
        told = f"{type(error).__name__}: {error}"
        log.error("periodic work failed", work=name, error=told)  # noqa: TRY400 - the domain gets no traceback
