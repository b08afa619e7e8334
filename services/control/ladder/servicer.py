"""LadderService: messages → the ladder → messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from headrace.api.control.v1 import ladder_pb2 as pb
from headrace.hop.call import Call
from headrace.hop.errors import Fault
from headrace.releases.ladder import answer_message, report_of
from services.control import errors
from services.control.identity import Identities
from services.control.ladder.ladder import Ladder
from services.control.records.limits import check_names
from services.control.records.servicer import RecordsServicer

# So often what is due without a verdict is looked for.
_TICK_S = 0.5


class LadderServicer:
    """Serves headrace.api.control.v1.LadderService. `may_change`: whether changes are accepted."""

    def __init__(
        self, ladder: Ladder, identities: Identities, records: RecordsServicer, may_change: Callable[[], bool]
    ) -> None:
        self._ladder = ladder
        self._identities = identities
        self._act = partial(records.once_accepted, writes=False)
        self._may_change = may_change

    async def ReportVerdict(self, request: pb.ReportVerdictRequest, call: Call) -> pb.ReportVerdictResponse:
        self._identities.check_judge(call.peer)
        check_names(request.pipeline)
        try:
            report = report_of(request)
        except ValueError:
            raise errors.malformed("verdict", "one of RolloutVerdict") from None
        return answer_message(await self._act(lambda: self._ladder.report(report)))

    async def run(self) -> None:
        """Does what is due without a verdict, until it is cancelled."""
        while True:
            if self._may_change():
                # The records' servicer says what is wrong with the database.
                with suppress(Fault):
                    await self._act(self._ladder.tick)
            await asyncio.sleep(_TICK_S)
