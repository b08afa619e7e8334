"""CostService: accounts → messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.hop.call import Call
from services.monitoring import errors
from services.monitoring.outcomes.records import StorageError


class CostServicer:
    """Serves headrace.api.monitoring.v1.CostService. `accounts`: of hours that end after a time, in seconds since 1970."""

    def __init__(self, accounts: Callable[[float], Awaitable[Sequence[pb.CostAccount]]]) -> None:
        self._accounts = accounts

    async def ReadCost(self, request: pb.ReadCostRequest, call: Call) -> pb.ReadCostResponse:
        errors.check_trusted(call)
        try:
            found = await self._accounts(request.since.ToNanoseconds() / 1e9)
        except StorageError as error:
            raise errors.unread(str(error)) from None
        return pb.ReadCostResponse(accounts=found)
