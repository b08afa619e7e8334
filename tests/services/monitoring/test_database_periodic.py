"""Work that is done again and again."""

import asyncio

import pytest

from services.monitoring.database.periodic import every
from services.monitoring.outcomes.records import StorageError
from tests.services.monitoring.monitoring_outcomes import Log


async def test_work_goes_on_whatever_fails_and_the_database_says_itself_what_fails_in_it() -> None:
    log, errors = Log(), iter([StorageError("full"), ValueError("odd"), asyncio.CancelledError()])

    async def work() -> None:
        raise next(errors)

    with pytest.raises(asyncio.CancelledError):
        await every(0.0, work, "removal", log)
    assert log.lines == [("periodic work failed", {"work": "removal", "error": "ValueError: odd"})]
