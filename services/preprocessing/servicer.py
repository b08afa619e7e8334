"""PreprocessingService: messages to batches and back."""

from __future__ import annotations

import time
from collections.abc import Callable

from headrace.api.preprocessing.v1 import preprocessing_pb2 as pb
from headrace.columns import wire
from headrace.hop.call import Call
from headrace.steps.service.runner import Runner


class PreprocessingServicer:
    """Serves headrace.api.preprocessing.v1.PreprocessingService."""

    def __init__(self, runner: Runner, clock: Callable[[], float] = time.monotonic) -> None:
        self._runner = runner
        self._clock = clock

    async def Transform(self, request: pb.TransformRequest, call: Call) -> pb.TransformResponse:
        received = self._clock()
        batch = wire.read_request(request, call, received)
        outputs = await self._runner.run(request.spec_sha256, request.spec, batch, received)
        reply = pb.TransformResponse()
        wire.write_reply(reply, outputs, call, self._clock())
        return reply
