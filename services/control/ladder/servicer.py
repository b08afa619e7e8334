"""LadderService: messages → the ladder → messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from headrace.api.control.v1 import ladder_pb2 as pb
from headrace.catalog.errors import RecordsError
from headrace.catalog.faults import fault_of
from headrace.hop.call import Call
from headrace.releases.ladder import answer_message, report_of
from services.control import errors
from services.control.identity import Identities
from services.control.ladder.ladder import Ladder
from services.control.records.limits import check_names

# So often what is due without a verdict is looked for.
TICK_S = 0.5


class LadderServicer:
    """Serves headrace.api.control.v1.LadderService. `accepting`: returns once changes are accepted; raises Fault if none are.
    `may_change`: whether they are."""

    def __init__(
        self,
        ladder: Ladder,
        identities: Identities,
        accepting: Callable[[], Awaitable[None]],
        may_change: Callable[[], bool],
        threads: ThreadPoolExecutor,
    ) -> None:
        self._ladder = ladder
        self._identities = identities
        self._accepting = accepting
        self._may_change = may_change
        self._threads = threads

    async def ReportVerdict(self, request: pb.ReportVerdictRequest, call: Call) -> pb.ReportVerdictResponse:
        self._identities.check_judge(call.peer)
        check_names(request.pipeline)
        try:
            report = report_of(request)
        except ValueError:
            raise errors.malformed("verdict", "one of RolloutVerdict") from None
        await self._accepting()
        loop = asyncio.get_running_loop()
        try:
            return answer_message(await loop.run_in_executor(self._threads, self._ladder.report, report))
        except RecordsError as error:
            raise fault_of(error) from None

    async def run(self) -> None:
        """Does what is due without a verdict, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if self._may_change():
                # The head says what is wrong with the database.
                with suppress(RecordsError):
                    await loop.run_in_executor(self._threads, self._ladder.tick)
            await asyncio.sleep(TICK_S)
