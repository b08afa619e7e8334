"""PostprocessingService: messages to batches and back."""

from __future__ import annotations

import time
from collections.abc import Callable

from headrace.api.postprocessing.v1 import postprocessing_pb2 as pb
from headrace.columns import decode, encode_into
from headrace.hop.call import Call
from headrace.steps.runner import Runner


class PostprocessingServicer:
    """Serves headrace.api.postprocessing.v1.PostprocessingService."""

    def __init__(self, runner: Runner, clock: Callable[[], float] = time.monotonic) -> None:
        self._runner = runner
        self._clock = clock

    async def Format(self, request: pb.FormatRequest, call: Call) -> pb.FormatResponse:  # noqa: ARG002 - hop's form
        received = self._clock()
        batch = decode(request.batch, received)
        outputs = await self._runner.run(request.spec_sha256, request.spec, batch, received)
        reply = pb.FormatResponse()
        encode_into(reply.batch, outputs, self._clock())
        return reply
