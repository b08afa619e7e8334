"""Events leave by a Redis stream, which monitoring services of any machine read."""

from __future__ import annotations

import asyncio

from headrace.events import stream
from headrace.hop.errors import Code, Fault, Reason
from headrace.state.redis import RedisCalls, RedisDownError
from services.router.events.clients import EventMessages
from services.router.events.sender import Message


class StreamEvents:
    """Implements `sender.Receiver`. `most`: messages that Redis keeps, about."""

    def __init__(self, calls: RedisCalls, codec: EventMessages, most: int) -> None:
        self._calls = calls
        self._codec = codec
        self._most = most

    async def record(self, message: Message, deadline: float) -> int:  # noqa: ARG002 - the calls have a timeout of their own
        content = await asyncio.to_thread(self._codec.encode, message)
        try:
            [reply] = await self._calls.ask([stream.add(content, self._most)])
        except RedisDownError as error:
            raise _unavailable(str(error)) from None
        if isinstance(reply, Exception):
            # Such as no memory.
            raise _unavailable(str(reply))
        return 0


def _unavailable(why: str) -> Fault:
    return Fault(Code.UNAVAILABLE, Reason.REASON_STORAGE_UNAVAILABLE, f"the stream of events: {why}")
