"""A small real server of the Open Inference Protocol around one ONNX model, as a process that can be killed and stopped.

usage: python -m tests.services.executor.oip_server PORT MODEL FILE [factor]    (port 0: any; prints the port)

`factor` multiplies float outputs: a server that answers otherwise than it should.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types

from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

TYPES = {"tensor(float)": ("FP32", np.float32), "tensor(int64)": ("INT64", np.int64)}


class Server(GRPCInferenceServiceServicer):
    """The RPCs that a client of one model needs."""

    def __init__(self, model: str, path: Path, factor: float) -> None:
        self.model = model
        self.factor = factor
        self.session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Any) -> oip.ModelReadyResponse:
        await self.check(request.name, context)
        return oip.ModelReadyResponse(ready=True)

    async def ModelMetadata(
        self, request: oip.ModelMetadataRequest, context: Any
    ) -> oip.ModelMetadataResponse:
        await self.check(request.name, context)
        inputs, outputs = map(tensors, (self.session.get_inputs(), self.session.get_outputs()))
        return oip.ModelMetadataResponse(name=self.model, inputs=inputs, outputs=outputs)

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Any) -> oip.ModelInferResponse:
        await self.check(request.model_name, context)
        feeds = {}
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            dtype = next(t for name, t in TYPES.values() if name == tensor.datatype)
            feeds[tensor.name] = np.frombuffer(raw, dtype).reshape(tuple(tensor.shape))
        try:
            outputs = await asyncio.to_thread(self.session.run, None, feeds)
        except Exception as error:  # noqa: BLE001 - as any server answers it
            await context.abort(grpc.StatusCode.INTERNAL, str(error))
        reply = oip.ModelInferResponse(model_name=self.model, model_version="1")
        for about, values in zip(self.session.get_outputs(), outputs, strict=True):
            scaled = values * np.asarray(self.factor, values.dtype)
            reply.outputs.add(name=about.name, datatype=TYPES[about.type][0], shape=values.shape)
            reply.raw_output_contents.append(scaled.tobytes())
        return reply

    async def check(self, model: str, context: Any) -> None:
        if model != self.model:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no model {model!r}")


def tensors(nodes: list[Any]) -> list[oip.ModelMetadataResponse.TensorMetadata]:
    return [
        oip.ModelMetadataResponse.TensorMetadata(
            name=n.name, datatype=TYPES[n.type][0], shape=[d if isinstance(d, int) else -1 for d in n.shape]
        )
        for n in nodes
    ]


async def main(port: int, model: str, path: Path, factor: float) -> None:
    server = grpc.aio.server()
    add_GRPCInferenceServiceServicer_to_server(Server(model, path, factor), server)  # type: ignore[no-untyped-call]  # generated
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(bound, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    factor = float(sys.argv[4]) if len(sys.argv) > 4 else 1.0
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), factor))
