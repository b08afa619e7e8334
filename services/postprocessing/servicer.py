"""PostprocessingService: messages to batches and back."""

from __future__ import annotations

import time
from collections.abc import Callable

from headrace.api.postprocessing.v1 import postprocessing_pb2 as pb
from headrace.columns import wire
from headrace.hop.call import Call
from headrace.steps.service.runner import Runner


class PostprocessingServicer:
    """Serves headrace.api.postprocessing.v1.PostprocessingService."""

    def __init__(self, runner: Runner, clock: Callable[[], float] = time.monotonic) -> None:
        self._runner = runner
        self._clock = clock

    async def Format(self, request: pb.FormatRequest, call: Call) -> pb.FormatResponse:
        received = self._clock()
        batch = wire.read_request(request, call, received)
        outputs = await self._runner.run(request.spec_sha256, request.spec, batch, received)
        reply = pb.FormatResponse()
        wire.write_reply(reply, outputs, call, self._clock())
        return reply
