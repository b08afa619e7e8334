"""The monitoring service's events, over hop."""

from __future__ import annotations

import asyncio

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.events import messages
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from services.router.events.sender import Message

RECORD = unary(pb.RecordEventsRequest, pb.RecordEventsResponse, idempotent=True)


class EventMessages:
    """Writes and reads the messages of this process, named `replica`. Implements `journal.Codec`."""

    def __init__(self, replica: str) -> None:
        self._replica = replica

    def request(self, message: Message) -> pb.RecordEventsRequest:
        return messages.write(
            self._replica, message.epoch, message.noted, message.groups, durable=message.durable
        )

    def encode(self, message: Message) -> bytes:
        return self.request(message).SerializeToString()


class HopEvents:
    """Implements `sender.Receiver` and `collection.Collector`."""

    def __init__(self, client: Client, codec: EventMessages) -> None:
        self._record = client.unary(RECORD)
        self._codec = codec

    async def record(self, message: Message, deadline: float) -> int:
        request = await asyncio.to_thread(self._codec.request, message)
        return (await self._record(request, deadline=deadline)).dropped_count

    async def record_encoded(self, content: bytes, deadline: float) -> None:
        """Hands over what `EventMessages.encode` made. Raises Fault, ValueError for other bytes."""
        try:
            request = pb.RecordEventsRequest.FromString(content)
        except Exception as error:
            raise ValueError("a frame holds no message") from error
        await self._record(request, deadline=deadline)
