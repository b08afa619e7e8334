"""ExecutorService: messages to batches and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from headrace.api.executor.v1 import executor_pb2 as pb
from headrace.columns import decode, encode
from headrace.hop.call import Call
from headrace.repository import TensorSpec
from services.executor.executing import Models


class ExecutorServicer:
    """Serves headrace.api.executor.v1.ExecutorService."""

    def __init__(self, models: Models, clock: Callable[[], float] = time.monotonic) -> None:
        self._models = models
        self._clock = clock

    async def Execute(self, request: pb.ExecuteRequest, call: Call) -> pb.ExecuteResponse:  # noqa: ARG002 - hop's form
        received = self._clock()
        batch = decode(request.batch, received)
        outputs, runner = await self._models.execute(request.model, request.version, batch, received)
        about = runner.model.metadata
        return pb.ExecuteResponse(
            batch=encode(outputs, self._clock()),
            version=about.version,
            sha256=about.sha256,
            backend=runner.model.backend.name,
        )

    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:  # noqa: ARG002 - the signature is hop's
        return pb.ListModelsResponse(
            models=[
                pb.Model(
                    name=about.name,
                    version=about.version,
                    sha256=about.sha256,
                    backend=about.backend,
                    inputs=_tensors(about.inputs),
                    outputs=_tensors(about.outputs),
                )
                for about in self._models.all()
            ]
        )


def _tensors(specs: Sequence[TensorSpec]) -> list[pb.Tensor]:
    return [pb.Tensor(name=s.name, data_type=int(s.dtype), row_shape=s.row_shape) for s in specs]  # type: ignore[arg-type]  # same numbers
